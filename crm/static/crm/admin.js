// What Unfold's markup leaves out for keyboards and screen readers. No library; runs on every page.
//
// Its icons are words in an icon font ("dock_to_right"), which a screen reader would read aloud, and some of its switches
// are plain elements that only a mouse can reach.

(() => {
  const hideIcons = (root) => {
    for (const icon of root.querySelectorAll(".material-symbols-outlined:not([aria-hidden])")) {
      // An icon that is itself the switch needs a name instead.
      if (!icon.hasAttribute("aria-label")) icon.setAttribute("aria-hidden", "true");
    }
  };

  const enableKeyboard = (root) => {
    for (const element of root.querySelectorAll("[x-on\\:click]:not(a[href], button, input, label, select, textarea, [role])")) {
      const isSwitch = element.matches("a, span, h2, h3") && element.querySelector("a[href], button, input") === null;
      if (!isSwitch) continue;
      element.setAttribute("role", "button");
      if (!element.hasAttribute("tabindex")) element.tabIndex = 0;
    }
  };

  const improve = (root) => {
    enableKeyboard(root);
    hideIcons(root);
  };

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if ((event.key === "Enter" || event.key === " ") && target.matches?.('[role="button"]:not(button, a[href])')) {
      event.preventDefault();
      target.click();
    }
  });

  document.addEventListener("DOMContentLoaded", () => {
    improve(document);
    new MutationObserver((changes) => {
      for (const change of changes) {
        for (const node of change.addedNodes) {
          if (node.nodeType === Node.ELEMENT_NODE) improve(node.parentElement || node);
        }
      }
    }).observe(document.body, { childList: true, subtree: true });
  });
})();
