(() => {
  // Scrolling does not zoom: on a page as long as this one it would catch the reader. Colours of the page, which follow the reader's scheme.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = () => {
    const ink = colour("--ink");
    const axis = { color: ink, gridcolor: ink + "33", zerolinecolor: ink + "55" };
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      font: { family: colour("--plot-font"), size: 12, color: ink },
      axes: axis,
    };
  };
  const dressed = (layout, camera) => {
    const { axes, ...rest } = themed();
    const scene = { ...layout.scene, ...(camera && { camera }) };
    for (const name of ["xaxis", "yaxis", "zaxis"]) scene[name] = { ...scene[name], ...axes };
    return { ...layout, ...rest, scene };
  };
  const turned = (camera, around, up) => {
    const { x, y, z } = camera.eye;
    const radius = Math.hypot(x, y, z);
    const azimuth = Math.atan2(y, x) + around;
    const height = Math.min(1.5, Math.max(-1.5, Math.asin(z / radius) + up));
    const flat = radius * Math.cos(height);
    return { ...camera, eye: { x: flat * Math.cos(azimuth), y: flat * Math.sin(azimuth), z: radius * Math.sin(height) } };
  };

  const link = (figure, views) => {
    // One view leads: the one that the reader touched last. What it shows, the others are told; what they report in
    // answer, late and in any order, is not listened to, or the views would go on turning each other.
    let leader = views[0];
    let wanted = null;
    let busy = false;
    const tell = async (camera, others) => {
      wanted = { camera, others };
      if (busy) return;
      busy = true;
      while (wanted) {
        const { camera: now, others: told } = wanted;
        wanted = null;
        await Promise.all(told.map((view) => Plotly.relayout(view, { "scene.camera": now })));
      }
      busy = false;
    };
    for (const view of views) {
      const lead = () => (leader = view);
      for (const touch of ["pointerdown", "touchstart", "mousedown", "focusin"]) view.addEventListener(touch, lead, true);
      const follow = (event) => {
        const camera = event["scene.camera"];
        if (camera && view === leader) tell(camera, views.filter((other) => other !== view));
      };
      view.on("plotly_relayouting", follow);
      view.on("plotly_relayout", follow);
    }
    const controls = figure.querySelector(".turn");
    controls.hidden = false;
    controls.addEventListener("click", (event) => {
      const button = event.target.closest("[data-turn]");
      if (!button) return;
      leader = null;
      const [around, up] = button.dataset.turn.split(" ").map(Number);
      tell(turned(views[0]._fullLayout.scene.camera, around, up), views);
    });
  };

  const draw = async (figure) => {
    const views = [...figure.querySelectorAll(".view")];
    const specs = views.map((view) => JSON.parse(view.parentElement.querySelector("script").textContent));
    try {
      await plottingLibrary();
      const bar = matchMedia("(hover: hover)").matches; // a finger has no use for it, and it covers the picture
      const config = { displaylogo: false, responsive: true, scrollZoom: false, displayModeBar: bar };
      await Promise.all(views.map((view, i) => Plotly.newPlot(view, specs[i].data, dressed(specs[i].layout), config)));
    } catch (error) {
      figure.querySelector(".unable").hidden = false;
      figure.querySelector(".pair").hidden = true;
      return;
    }
    // Plotly gives the scenes of all plots the same id.
    figure.querySelectorAll('[id="scene"]').forEach((scene, i) => (scene.id = `${figure.id}-scene-${i}`));
    link(figure, views);
    for (const view of views) view.dataset.drawn = "yes";
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      views.forEach((view, i) => Plotly.relayout(view, dressed(specs[i].layout, view._fullLayout.scene.camera)));
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
