(() => {
  // Legends that switch lines off and on: a button over each entry of the drawn legend, for pointer and keyboard.
  const build = (drawing) => {
    const svg = drawing.querySelector("svg");
    const frame = svg.getBoundingClientRect();
    const entries = new Map();
    for (const part of svg.querySelectorAll("[data-legend]")) {
      const key = part.dataset.legend;
      entries.set(key, [...(entries.get(key) ?? []), part]);
    }
    const group = document.createElement("div");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Legend: show or hide");
    for (const [key, parts] of entries) {
      const boxes = parts.map((part) => part.getBoundingClientRect());
      const left = Math.min(...boxes.map((box) => box.left)) - frame.left;
      const right = Math.max(...boxes.map((box) => box.right)) - frame.left;
      const top = Math.min(...boxes.map((box) => box.top)) - frame.top;
      const bottom = Math.max(...boxes.map((box) => box.bottom)) - frame.top;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "entry";
      button.dataset.entry = key;
      button.setAttribute("aria-pressed", "true");
      button.setAttribute("aria-label", parts.map((part) => part.textContent).join("").trim());
      button.title = "Show or hide";
      Object.assign(button.style, {
        left: `${(100 * left) / frame.width}%`,
        width: `${(100 * (right - left)) / frame.width}%`,
        top: `${(50 * (top + bottom)) / frame.height}%`,
      });
      group.append(button);
    }
    drawing.append(group);
  };
  const toggle = (figure, key) => {
    const shown = figure.querySelector(`[data-entry="${CSS.escape(key)}"]`).getAttribute("aria-pressed") === "true";
    for (const button of figure.querySelectorAll(`[data-entry="${CSS.escape(key)}"]`)) {
      button.setAttribute("aria-pressed", String(!shown));
    }
    for (const line of figure.querySelectorAll(`[data-series="${CSS.escape(key)}"]`)) line.classList.toggle("off", shown);
    for (const part of figure.querySelectorAll(`[data-legend="${CSS.escape(key)}"]`)) part.classList.toggle("faded", shown);
  };
  // A drawing that is not shown, as the one for other screens, has no size: its buttons wait until it has one.
  const watcher = new ResizeObserver((sizes) => {
    for (const { target, contentRect } of sizes) {
      if (!contentRect.width) continue;
      watcher.unobserve(target);
      build(target);
      const figure = target.closest("figure");
      for (const part of figure.querySelectorAll(".faded[data-legend]")) {
        const button = target.querySelector(`[data-entry="${CSS.escape(part.dataset.legend)}"]`);
        button?.setAttribute("aria-pressed", "false");
      }
    }
  });
  for (const figure of document.querySelectorAll("figure")) {
    const drawings = [...figure.querySelectorAll(".drawing")].filter((one) => one.querySelector("[data-legend]"));
    for (const drawing of drawings) watcher.observe(drawing);
    if (!drawings.length) continue;
    figure.addEventListener("click", (event) => {
      const button = event.target.closest("[data-entry]");
      if (button) toggle(figure, button.dataset.entry);
    });
  }
})();
