"use strict";
(() => {
  const MOST = 12; // arms that a picture shows while the table is filtered
  const figures = JSON.parse(document.getElementById("data").textContent);
  const drawn = new Map(); // the place of a picture, and what its traces were when it was made
  let chosen = null; // the arms that the filter leaves, if there is one

  // the pictures: each is drawn when it comes near, in the colours and the shape of the page
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 700px)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = (figure) => ({
    ...figure.layout.meta[narrow.matches ? "narrow" : "wide"],
    "font.color": colour("--ink"),
    "hoverlabel.bgcolor": colour("--shade"),
    "hoverlabel.font.color": colour("--ink"),
    dragmode: touch ? false : "zoom",
  });

  let unpacking = null;
  const unpack = async () => {
    const text = atob(document.getElementById("plotly").textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  const draw = async (place) => {
    await (unpacking ??= unpack());
    const figure = figures[place.id];
    const first = figure.data.map((trace) => trace.visible ?? true);
    await Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    await Plotly.relayout(place, look(figure));
    drawn.set(place, first);
    select(place);
    const choice = document.querySelector(`[data-plot="${place.id}"] :checked`);
    if (choice) choose(place, choice.value);
  };

  const select = (place) => {
    const traces = figures[place.id].data;
    if (!traces.some((trace) => trace.meta?.arms)) return;
    const visible = traces.map((trace, i) => {
      if (!chosen || !trace.meta?.arms) return drawn.get(place)[i];
      return trace.meta.arms.some((arm) => chosen.has(arm)) || "legendonly";
    });
    Plotly.restyle(place, { visible });
  };

  const choose = (place, option) => {
    const changes = {};
    for (const trace of figures[place.id].data)
      for (const [key, value] of Object.entries(trace.meta.choices[option])) (changes[key] ??= []).push(value);
    Plotly.update(place, changes, figures[place.id].layout.meta.choices[option]);
  };

  const watch = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watch.unobserve(target);
        draw(target).catch((error) => (target.textContent = `This picture cannot be drawn: ${error}`));
      }
    },
    { rootMargin: "400px" },
  );
  for (const id of Object.keys(figures)) watch.observe(document.getElementById(id));
  for (const query of [dark, narrow])
    query.addEventListener("change", () => {
      for (const place of drawn.keys()) Plotly.relayout(place, look(figures[place.id]));
    });
  for (const choices of document.querySelectorAll("[data-plot]"))
    choices.addEventListener("change", ({ target }) => {
      const place = document.getElementById(choices.dataset.plot);
      if (drawn.has(place)) choose(place, target.value);
    });

  // the table: headings sort, words and boxes filter
  const table = document.querySelector(".ranking");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("thead th")];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.scope) return row.dataset.arm;
    if (!("value" in cell.dataset)) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  for (const [column, head] of heads.entries()) {
    head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  }

  const filter = document.getElementById("filter");
  const boxes = [...document.querySelectorAll(".filters [type=checkbox]")];
  const cards = [...document.querySelectorAll(".gallery [data-arm]")];
  const ticked = (name) => boxes.filter((box) => box.name === name && box.checked).map((box) => box.value);
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = ["estimator", "term"].map((name) => [name, ticked(name)]);
    const kept = new Set();
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const fits = kinds.every(([name, values]) => !values.length || values.includes(row.dataset[name]));
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      if (!row.hidden) kept.add(row.dataset.arm);
    }
    const all = kept.size === body.rows.length;
    document.getElementById("count").textContent = (all ? "" : `${kept.size} of `) + `${body.rows.length} arms`;
    for (const card of cards) card.hidden = !kept.has(card.dataset.arm);
    chosen = all ? null : new Set([...kept].slice(0, MOST));
    for (const place of drawn.keys()) select(place);
  };
  filter.addEventListener("input", apply);
  for (const box of boxes) box.addEventListener("change", apply);
  document.getElementById("all").addEventListener("click", () => {
    filter.value = "";
    for (const box of boxes) box.checked = false;
    apply();
  });
})();
