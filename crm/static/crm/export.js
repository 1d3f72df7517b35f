// The export page: ticks all or none of a group, and keeps the order of the columns that are ticked.

document.addEventListener("DOMContentLoaded", () => {
  const columns = document.querySelector("[data-columns]");
  const order = columns?.querySelector("[data-order]");
  const kept = document.querySelector("input[name=order]");
  if (!order || !kept) return;
  const list = order.querySelector("ol");
  const boxes = [...columns.querySelectorAll("input[name=columns]")];
  const words = new Map(boxes.map((box) => [box.value, box.labels[0].querySelector("span").textContent.trim()]));
  const usual = new Map(boxes.map((box, index) => [box.value, index]));

  const names = () => [...list.children].map((item) => item.dataset.name);
  const keep = () => {
    kept.value = names().join(",");
    order.hidden = list.children.length < 2;
  };

  const button = (item, label, sign, move) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "hd-button";
    made.textContent = sign;
    made.setAttribute("aria-label", `${label}: ${words.get(item.dataset.name)}`);
    made.addEventListener("click", () => {
      move();
      keep();
      made.focus();
    });
    return made;
  };

  const add = (name) => {
    const item = document.createElement("li");
    item.dataset.name = name;
    const text = document.createElement("span");
    text.textContent = words.get(name);
    item.append(
      text,
      button(item, order.dataset.up, "\u2191", () => item.previousElementSibling?.before(item)),
      button(item, order.dataset.down, "\u2193", () => item.nextElementSibling?.after(item)),
    );
    list.append(item);
  };

  const follow = () => {
    const ticked = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    for (const item of [...list.children]) if (!ticked.has(item.dataset.name)) item.remove();
    const known = new Set(names());
    for (const name of ticked) if (!known.has(name)) add(name);
    keep();
  };

  for (const name of kept.value.split(",")) if (usual.has(name)) add(name);
  follow();
  columns.addEventListener("change", (event) => {
    if (event.target.name === "columns") follow();
  });

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-all], [data-none]");
    if (!pressed) return;
    const group = pressed.closest("fieldset") ?? columns;
    for (const box of group.querySelectorAll("input[name=columns]")) box.checked = pressed.matches("[data-all]");
    follow();
  });
});
