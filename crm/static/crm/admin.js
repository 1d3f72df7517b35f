// What Unfold's markup and Select2 leave out for keyboards and screen readers. No library; runs on every page.

(() => {
  // Icons are words in an icon font ("dock_to_right"), which a screen reader would read aloud.
  const hideIcons = (root) => {
    for (const icon of root.querySelectorAll(".material-symbols-outlined:not([aria-hidden], [role])")) {
      icon.setAttribute("aria-hidden", "true");
    }
  };

  // Some switches are plain elements that only a mouse can reach.
  const enableKeyboard = (root) => {
    for (const element of root.querySelectorAll("a[x-on\\:click]:not([href], [role]), span[x-on\\:click]:not([role])")) {
      if (element.querySelector("a[href], button, input")) continue;
      element.setAttribute("role", "button");
      if (!element.hasAttribute("tabindex")) element.tabIndex = 0;
      const icon = element.matches(".material-symbols-outlined") ? element : element.querySelector(".material-symbols-outlined");
      const words = [...element.childNodes].some((node) => node !== icon && node.textContent.trim());
      if (!words && icon && !element.hasAttribute("aria-label")) {
        // Nothing but a picture: its name in the icon font is better than none.
        element.setAttribute("aria-label", element.title || icon.textContent.trim().replaceAll("_", " "));
      }
    }
  };

  // Select2 names its box after what is chosen, so an empty one has no name: give it its field's label.
  const labelOf = (id) => document.getElementById(id)?.labels?.[0]?.textContent.replace(/[\s*:]+$/, "").trim();
  const nameSelects = (root) => {
    for (const shown of root.querySelectorAll(".select2-selection__rendered[id]:not([aria-label])")) {
      const label = labelOf(shown.id.replace(/^select2-|-container$/g, ""));
      if (!label) continue;
      shown.setAttribute("aria-label", label);
      const box = shown.closest("[role=combobox]");
      box?.removeAttribute("aria-labelledby");
      box?.setAttribute("aria-label", label);
      box?.setAttribute("aria-describedby", shown.id);
    }
    for (const search of root.querySelectorAll(".select2-search__field[aria-controls]:not([aria-label])")) {
      const label = labelOf(search.getAttribute("aria-controls").replace(/^select2-|-results$/g, ""));
      if (label) search.setAttribute("aria-label", label);
    }
  };

  const improve = (root) => {
    enableKeyboard(root);
    hideIcons(root);
    nameSelects(root);
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
        if ([...change.addedNodes].some((node) => node.nodeType === Node.ELEMENT_NODE)) improve(change.target);
      }
    }).observe(document.body, { childList: true, subtree: true });
  });
})();
