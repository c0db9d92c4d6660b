(() => {
  // Scrolling does not zoom: on a page as long as this one it would catch the reader. Colours of the page, which follow the reader's scheme.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = () => {
    const ink = colour("--ink");
    const axis = { color: ink, gridcolor: ink + "33", zerolinecolor: ink + "55" };
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      font: { family: colour("--figure-font"), size: 12, color: ink },
      axes: axis,
    };
  };
  const dressed = (layout) => {
    const { axes, ...rest } = themed();
    const scene = { ...layout.scene };
    for (const name of ["xaxis", "yaxis", "zaxis"]) scene[name] = { ...scene[name], ...axes };
    return { ...layout, ...rest, scene };
  };
  const draw = (figure) => {
    const views = [...figure.querySelectorAll(".view")];
    const specs = views.map((view) => JSON.parse(view.parentElement.querySelector("script").textContent));
    const bar = matchMedia("(hover: hover)").matches; // a finger has no use for it, and it covers the picture
    let busy = false;
    views.forEach((view, i) => {
      const config = { displaylogo: false, responsive: true, scrollZoom: false, displayModeBar: bar };
      Plotly.newPlot(view, specs[i].data, dressed(specs[i].layout), config).then(() => {
        const follow = (event) => {
          const camera = event["scene.camera"];
          if (!camera || busy) return;
          busy = true;
          const others = views.filter((other) => other !== view && other._fullLayout);
          Promise.all(others.map((other) => Plotly.relayout(other, { "scene.camera": camera }))).finally(() => {
            busy = false;
          });
        };
        view.on("plotly_relayouting", follow);
        view.on("plotly_relayout", follow);
        view.dataset.drawn = "yes";
      });
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      views.forEach((view, i) => Plotly.relayout(view, dressed(specs[i].layout)));
    });
  };
  // Only what comes into view is drawn: a browser keeps few 3-D contexts, and a reader may never scroll so far.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll("figure.surfaces").forEach((figure) => watcher.observe(figure));
})();
