(() => {
  // Search, filter and navigation. Without this script everything is shown, and the links work.
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  // As a reader types it: small letters, and what is raised or lowered (r⁺, xₕ, fˢᴬᴹ) on the line.
  const plain = (text) => text.normalize("NFKD").toLowerCase().replace(/\s+/g, " ");
  const words = (element) => {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT, (node) =>
      node.parentElement.closest("script, noscript") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    let text = "";
    while (walker.nextNode()) text += walker.currentNode.data + " ";
    return plain(text);
  };

  const studies = all("section.study").map((section) => ({
    section,
    text: words(section) + " " + plain(section.id),
    links: all(`[data-study="${section.id}"]`).filter((element) => element.tagName === "LI"),
    rows: one(`tbody[data-study="${section.id}"]`),
    claims: all(`tbody[data-study="${section.id}"] .row`).map((row) => {
      const item = document.getElementById(row.dataset.claim);
      return { row, item, verdict: row.dataset.verdict, text: words(item) + " " + plain(section.id) };
    }),
    cells: all(".cells li", section).map((item) => ({ item, text: plain(item.textContent) })),
    fold: one(".raw-cells", section),
    open: false,
  }));
  const claims = studies.flatMap((study) => study.claims);
  const cells = studies.flatMap((study) => study.cells);
  const input = one("#query");
  const status = one("#found");
  const buttons = all(".verdicts [data-verdict]");
  let verdict = "";

  const many = (n, of, name) => `${n} of ${of} ${name}`;
  const filter = () => {
    const asked = plain(input.value).split(" ").filter(Boolean);
    const has = (text) => asked.every((word) => text.includes(word));
    let found = 0;
    let listed = 0;
    for (const study of studies) {
      const fits = has(study.text);
      study.section.hidden = !fits;
      for (const link of study.links) link.hidden = !fits;
      listed += fits;
      // A study that fits as a whole, but no claim of it alone, shows all of its claims; so with its cells.
      const some = study.claims.some((claim) => has(claim.text));
      for (const claim of study.claims) {
        const wanted = !verdict || claim.verdict === verdict;
        claim.row.hidden = !(wanted && has(claim.text));
        claim.item.hidden = !wanted || (some && !has(claim.text));
      }
      if (study.rows) study.rows.hidden = study.claims.every((claim) => claim.row.hidden);
      const name = plain(study.section.id);
      const cell = ({ text }) => has(name + " " + text) && asked.some((word) => text.includes(word));
      const any = study.cells.some(cell);
      for (const each of study.cells) each.item.hidden = any && !cell(each);
      if (any) found += study.cells.filter(cell).length;
      if (any && !study.opened) study.open = study.fold.open;
      if (any) study.fold.open = true;
      else if (study.opened) study.fold.open = study.open;
      study.opened = any;
    }
    const shown = claims.filter((claim) => !claim.row.hidden).length;
    const nothing = !shown && !listed;
    for (const note of all('[data-nothing="claims"]')) note.hidden = shown > 0 || nothing;
    for (const table of all("table.all")) table.hidden = shown === 0;
    for (const note of all('[data-nothing="studies"]')) note.hidden = !nothing;
    const what = [many(shown, claims.length, "claims"), many(listed, studies.length, "studies")];
    if (asked.length) what.push(many(found, cells.length, "cells"));
    const why = (verdict ? ` with the verdict “${verdict}”` : "") + (asked.length ? ` for “${input.value.trim()}”` : "");
    if (!why) status.textContent = "";
    else status.textContent = nothing ? `Nothing found${why}.` : `Found${why}: ${what.join(", ")}.`;
  };
  const choose = (wanted) => {
    verdict = wanted;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === wanted));
    filter();
  };
  one(".search").addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", filter);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = "";
    filter();
  });
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.verdict));
  for (const button of all(".clear")) {
    button.addEventListener("click", () => {
      input.value = "";
      choose("");
      input.focus();
    });
  }
  for (const tool of all(".search, .verdicts")) tool.hidden = false;
  document.documentElement.classList.add("scripted");
  if (input.value) filter(); // a browser that comes back to the page may have kept it

  // The list of studies is folded where it would cover a narrow screen, and says where the reader is.
  const fold = one("nav details");
  const narrow = matchMedia("(max-width: 74.99rem)");
  const unfold = () => (fold.open = !narrow.matches);
  narrow.addEventListener("change", unfold);
  unfold();
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  for (const link of links.values()) link.addEventListener("click", unfold);
  fold.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && narrow.matches) {
      fold.open = false;
      one("summary", fold).focus();
    }
  });
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) links.get(target.id)?.setAttribute("aria-current", "true");
      else links.get(target.id)?.removeAttribute("aria-current");
    }
  }, { rootMargin: "-30% 0px -69% 0px" });
  for (const section of all("main > section")) watcher.observe(section);

  // Only what scrolls needs to be reached by the keyboard.
  const reach = () => {
    for (const box of all(".scroll")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("resize", reach);
  reach();
})();
