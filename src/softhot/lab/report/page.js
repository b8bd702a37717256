"use strict";
(() => {
  const MOST = 12; // arms that a picture shows while the table is filtered
  const figures = JSON.parse(document.getElementById("data").textContent);
  const drawn = new Map(); // the place of a picture, and what its traces were when it was made
  let kept = null; // the first of the arms that the filter leaves, if there is one

  // the pictures: each is drawn when it comes near, in the colours and the shape of the page
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 700px)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const look = (place) => ({
    ...figures[place.id].layout.meta[narrow.matches ? "narrow" : "wide"],
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
    const { data, layout } = figures[place.id];
    drawn.set(place, data.map((trace) => trace.visible ?? true));
    for (const [path, value] of Object.entries(look(place))) put(layout, path, value);
    for (const [i, visible] of selected(place).entries()) data[i].visible = visible;
    const choice = chosen(place);
    for (const [path, value] of Object.entries(layout.meta.choices?.[choice] ?? {})) put(layout, path, value);
    for (const trace of data) Object.assign(trace, trace.meta?.choices?.[choice]);
    await Plotly.newPlot(place, data, layout, { responsive: true, displayModeBar: false });
  };

  // what Plotly.relayout does to a path such as "font.color", before there is a plot
  const put = (target, path, value) => {
    const names = path.split(".");
    const last = names.pop();
    names.reduce((inner, name) => (inner[name] ??= {}), target)[last] = value;
  };

  // for each trace, whether it is to be seen: as it was made, or as the filter says
  const selected = (place) =>
    figures[place.id].data.map((trace, i) => {
      if (!kept || !trace.meta?.arms) return drawn.get(place)[i];
      return trace.meta.arms.some((arm) => kept.has(arm)) || "legendonly";
    });

  const chosen = (place) => document.querySelector(`[data-plot="${place.id}"] :checked`)?.value;

  const choose = (place) => {
    const { data, layout } = figures[place.id];
    const changes = {};
    for (const trace of data)
      for (const [key, value] of Object.entries(trace.meta.choices[chosen(place)])) (changes[key] ??= []).push(value);
    Plotly.update(place, changes, layout.meta.choices[chosen(place)]);
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
      for (const place of drawn.keys()) Plotly.relayout(place, look(place));
    });
  for (const choices of document.querySelectorAll("[data-plot]"))
    choices.addEventListener("change", () => {
      const place = document.getElementById(choices.dataset.plot);
      if (drawn.has(place)) choose(place);
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
    const fitting = [];
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const fits = kinds.every(([name, values]) => !values.length || values.includes(row.dataset[name]));
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      if (!row.hidden) fitting.push(row.dataset.arm);
    }
    const all = fitting.length === body.rows.length;
    document.getElementById("count").textContent = (all ? "" : `${fitting.length} of `) + `${body.rows.length} arms`;
    for (const card of cards) card.hidden = !fitting.includes(card.dataset.arm);
    kept = all ? null : new Set(fitting.slice(0, MOST));
    for (const place of drawn.keys())
      if (figures[place.id].data.some((trace) => trace.meta?.arms)) Plotly.restyle(place, { visible: selected(place) });
  };
  filter.addEventListener("input", apply);
  for (const box of boxes) box.addEventListener("change", apply);
  document.getElementById("all").addEventListener("click", () => {
    filter.value = "";
    for (const box of boxes) box.checked = false;
    apply();
  });
})();
