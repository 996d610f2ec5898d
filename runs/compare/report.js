"use strict";
// The report of runs.compare: curves, tables and films from the JSON beside this script. All names enter the page as
// text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888"];
const DASHES = ["", "7 4", "2 3", "8 3 2 3"];
const X_NAMES = { steps: "agent steps", frames: "game frames", hours: "wall time (hours)" };
const WIDTH = 560, HEIGHT = 330, LEFT = 62, RIGHT = 18, TOP = 10, BOTTOM = 40, MOST = 600;
const shown = { x: data.x, logX: false, logY: false, bands: true, seeds: false, smooth: 1 };
const redraws = [];

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function format(value, digits = 4) {
  const size = Math.abs(value);
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (size >= unit) return +(value / (name === "k" ? 1e3 : unit)).toPrecision(digits) + name;
  return String(+value.toPrecision(digits));
}

function labels(found) { // of ticks, with as many digits as tell them apart
  for (let digits = 4; ; digits++) {
    const texts = found.map((tick) => format(tick, digits));
    if (new Set(texts).size === texts.length || digits === 12) return texts;
  }
}

// ---- curves

function places(run) {
  if (shown.x === "hours") return run.hours;
  return shown.x === "frames" ? run.steps.map((step) => step * run.frames) : run.steps;
}

function smoothed(values) {
  const half = (shown.smooth - 1) / 2;
  if (half < 1) return values;
  return values.map((_, at) => {
    const part = values.slice(Math.max(0, at - half), at + half + 1);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}

function interpolate(xs, ys, x) { // between known places only
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  if (high <= low || xs[high] === xs[low]) return ys[low];
  if (x >= xs[high]) return ys[high];
  return ys[low] + ((ys[high] - ys[low]) * (x - xs[low])) / (xs[high] - xs[low]);
}

function mean(curves) { // over the places that all curves reach
  const begin = Math.max(...curves.map((curve) => curve.x[0]));
  const end = Math.min(...curves.map((curve) => curve.x[curve.x.length - 1]));
  let grid = [...new Set(curves.flatMap((curve) => curve.x))].filter((x) => x >= begin && x <= end);
  grid.sort((a, b) => a - b);
  if (grid.length > MOST) grid = Array.from({ length: MOST }, (_, at) => grid[Math.round((at * (grid.length - 1)) / (MOST - 1))]);
  const rows = grid.map((x) => curves.map((curve) => interpolate(curve.x, curve.y, x)));
  return {
    x: grid,
    y: rows.map((row) => row.reduce((sum, value) => sum + value, 0) / row.length),
    low: rows.map((row) => Math.min(...row)),
    high: rows.map((row) => Math.max(...row)),
  };
}

function curvesOf(group) {
  return group.runs
    .filter((run) => run.on && run.steps.length && places(run).length)
    .map((run) => ({ run, x: places(run), y: smoothed(run.values) }));
}

function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of high / low < 1000 ? [1, 2, 5] : [1]) {
        const tick = digit * 10 ** power;
        if (tick >= low && tick <= high) found.push(tick);
      }
    return found;
  }
  const raw = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((digit) => digit * power).find((size) => size >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(+tick.toPrecision(12));
  return found;
}

function scale(low, high, begin, end, log) {
  const of = log ? Math.log10 : (value) => value;
  const from = of(low), to = of(high);
  const place = (value) => (to === from ? (begin + end) / 2 : begin + ((of(value) - from) / (to - from)) * (end - begin));
  place.back = (pixel) => {
    const value = from + ((pixel - begin) / (end - begin)) * (to - from);
    return log ? 10 ** value : value;
  };
  return place;
}

function path(curve, ys, toX, toY) {
  let text = "";
  curve.x.forEach((x, at) => {
    const px = toX(x), py = toY(ys[at]);
    if (Number.isFinite(px) && Number.isFinite(py)) text += `${text ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`;
  });
  return text;
}

function axes(svg, toX, toY, range, logX, logY, xName, yName) {
  const along = ticks(range.x[0], range.x[1], logX), up = ticks(range.y[0], range.y[1], logY), named = [labels(along), labels(up)];
  along.forEach((tick, at) => {
    svg.append(drawn("line", { class: "grid", x1: toX(tick), x2: toX(tick), y1: TOP, y2: HEIGHT - BOTTOM }));
    svg.append(drawn("text", { x: toX(tick), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, named[0][at]));
  });
  up.forEach((tick, at) => {
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: toY(tick), y2: toY(tick) }));
    svg.append(drawn("text", { x: LEFT - 6, y: toY(tick) + 4, "text-anchor": "end" }, named[1][at]));
  });
  svg.append(drawn("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xName));
  const turn = `translate(13 ${(HEIGHT - BOTTOM) / 2}) rotate(-90)`;
  svg.append(drawn("text", { transform: turn, "text-anchor": "middle" }, yName));
}

function color(number) { return COLORS[number % COLORS.length]; }

function lineStyle(number) {
  return { fill: "none", stroke: color(number), "stroke-dasharray": DASHES[Math.floor(number / COLORS.length) % DASHES.length] };
}

function hover(box, svg, toX, lines, xName) { // lines: {name, number, curve}
  const tip = box.querySelector(".tip"), cursor = drawn("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  svg.append(cursor);
  svg.onpointerleave = () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); };
  svg.onpointermove = (event) => {
    const frame = svg.getBoundingClientRect(), pixel = ((event.clientX - frame.left) / frame.width) * WIDTH;
    const x = toX.back(Math.min(Math.max(pixel, LEFT), WIDTH - RIGHT));
    const known = lines.filter(({ curve }) => x >= curve.x[0] && x <= curve.x[curve.x.length - 1]);
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", toX(x));
    cursor.setAttribute("x2", toX(x));
    const rows = known.map(({ name, number, curve, band }) => {
      let text = `${name}: ${format(interpolate(curve.x, curve.y, x))}`;
      if (band) text += ` (${format(interpolate(curve.x, curve.low, x))} to ${format(interpolate(curve.x, curve.high, x))})`;
      return element("div", {}, sample(number), text);
    });
    const more = rows.length > 16 ? [element("div", {}, `and ${rows.length - 16} more`)] : [];
    tip.replaceChildren(element("b", {}, `${format(x)} ${xName}`), ...rows.slice(0, 16), ...more);
    tip.hidden = false;
    const left = event.clientX - box.getBoundingClientRect().left;
    tip.style.left = `${left > frame.width / 2 ? left - tip.offsetWidth - 14 : left + 14}px`;
    tip.style.top = `${event.clientY - box.getBoundingClientRect().top + 10}px`;
  };
}

function canvas(box) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  box.querySelector("svg[role=img]")?.remove();
  box.querySelector("h3").after(svg);
  return svg;
}

function extent(values, log, pad) {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!usable.length) return [log ? 0.1 : 0, 1];
  let low = usable.reduce((a, b) => Math.min(a, b)), high = usable.reduce((a, b) => Math.max(a, b));
  if (low === high) return log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  return log ? [low, high] : [low - pad * (high - low), high + pad * (high - low)];
}

function drawPanel(box, panel) {
  const svg = canvas(box), lines = [], thin = [];
  for (const group of panel.groups) {
    const curves = group.on ? curvesOf(group) : [];
    if (!curves.length) continue;
    const curve = mean(curves);
    if (curve.x.length) lines.push({ name: group.label, number: group.color, curve, band: curves.length > 1 });
    if (shown.seeds || !curve.x.length) thin.push(...curves.map((each) => ({ number: group.color, curve: each })));
  }
  const all = [...lines, ...thin].map((line) => line.curve);
  const range = {
    x: extent(all.flatMap((curve) => curve.x), shown.logX, 0),
    y: extent(all.flatMap((curve) => (curve.low && shown.bands ? [...curve.low, ...curve.high] : curve.y)), shown.logY, 0.04),
  };
  const toX = scale(...range.x, LEFT, WIDTH - RIGHT, shown.logX), toY = scale(...range.y, HEIGHT - BOTTOM, TOP, shown.logY);
  const xName = shown.x === "steps" && panel.unit !== "steps" ? `${panel.unit} shown` : X_NAMES[shown.x];
  axes(svg, toX, toY, range, shown.logX, shown.logY, xName, panel.meaning);
  for (const { number, curve } of thin)
    svg.append(drawn("path", { d: path(curve, curve.y, toX, toY), ...lineStyle(number), "stroke-width": 0.8, opacity: 0.6 }));
  for (const { number, curve, band } of lines) {
    if (band && shown.bands) {
      const back = { x: [...curve.x].reverse() };
      const edge = path(curve, curve.high, toX, toY) + path(back, [...curve.low].reverse(), toX, toY).replace("M", "L");
      svg.append(drawn("path", { d: edge, fill: color(number), opacity: 0.17 }));
    }
    svg.append(drawn("path", { class: "curve", d: path(curve, curve.y, toX, toY), ...lineStyle(number), "stroke-width": 2 }));
    if (curve.x.length < 30)
      curve.x.forEach((x, at) => svg.append(drawn("circle", { cx: toX(x), cy: toY(curve.y[at]), r: 2.2, fill: color(number) })));
  }
  if (!all.length) svg.append(drawn("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, `nothing to show along ${shown.x}`));
  hover(box, svg, toX, [...lines, ...(lines.length ? [] : thin)], shown.x);
}

function sample(number) { // of a line, as it is drawn
  const svg = drawn("svg", { class: "swatch", viewBox: "0 0 28 8" });
  svg.append(drawn("path", { d: "M0 4H28", ...lineStyle(number), "stroke-width": 3 }));
  return svg;
}

function checkbox(text, on, change, swatch) {
  const input = element("input", { type: "checkbox" });
  input.checked = on;
  input.onchange = () => change(input.checked);
  return element("label", {}, input, ...(swatch === undefined ? [] : [sample(swatch)]), text);
}

function addPanel(parent, panel) {
  const box = element("div", { class: "panel" }, element("h3", {}, panel.title), element("div", { class: "tip", hidden: "" }));
  const redraw = () => drawPanel(box, panel), legend = element("div", { class: "legend" });
  for (const group of panel.groups) {
    group.on = true;
    const line = checkbox(`${group.label} (${group.runs.length} ${group.runs.length === 1 ? "seed" : "seeds"})`, true, (on) => { group.on = on; redraw(); }, group.color);
    const seeds = element("div", { class: "seeds" });
    for (const run of group.runs) {
      run.on = true;
      if (group.runs.length > 1) seeds.append(checkbox(`${run.seed}${run.status === "finished" ? "" : ` ${run.status}`} `, true, (on) => { run.on = on; redraw(); }));
    }
    legend.append(element("div", {}, line), seeds);
  }
  box.append(legend);
  parent.append(box);
  redraws.push(redraw);
}

function addProfile(parent, profile) {
  const box = element("div", { class: "panel" }, element("h3", {}, profile.title), element("div", { class: "tip", hidden: "" }));
  const on = new Set(profile.agents.map((agent) => agent.name)), legend = element("div", { class: "legend" });
  const redraw = () => {
    const svg = canvas(box), range = { x: extent(profile.thresholds, false, 0), y: [0, 1.02] };
    const toX = scale(...range.x, LEFT, WIDTH - RIGHT), toY = scale(...range.y, HEIGHT - BOTTOM, TOP), lines = [];
    axes(svg, toX, toY, range, false, false, `τ: ${profile.unit}`, "share of runs better than τ");
    profile.agents.forEach((agent, number) => {
      if (!on.has(agent.name)) return;
      const curve = { x: profile.thresholds, y: agent.share };
      if (agent.low && shown.bands) {
        const back = { x: [...curve.x].reverse() };
        const edge = path(curve, agent.high, toX, toY) + path(back, [...agent.low].reverse(), toX, toY).replace("M", "L");
        svg.append(drawn("path", { d: edge, fill: color(number), opacity: 0.17 }));
      }
      svg.append(drawn("path", { class: "curve", d: path(curve, curve.y, toX, toY), ...lineStyle(number), "stroke-width": 2 }));
      lines.push({ name: agent.name, number, curve });
    });
    hover(box, svg, toX, lines, "τ");
  };
  profile.agents.forEach((agent, number) => {
    legend.append(element("div", {}, checkbox(agent.name, true, (checked) => { checked ? on.add(agent.name) : on.delete(agent.name); redraw(); }, number)));
  });
  box.append(legend);
  parent.append(box);
  redraws.push(redraw);
}

// ---- tables

function sortKey(text) { // the first number of a cell, with its unit; text that has none sorts after numbers
  const found = /^[^\d–-]*(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*(k|M|G|s|min|h|d)?(?![a-z])/i.exec(text);
  if (!found) return null;
  const units = { k: 1e3, M: 1e6, G: 1e9, s: 1, min: 60, h: 3600, d: 86400 };
  return parseFloat(found[1].replaceAll(",", "")) * (units[found[2]] || 1);
}

function addTable(parent, section) {
  const rows = section.rows.map((cells) => element("tr", {}, ...cells.map((cell, at) => element("td", section.words[at] ? { class: "word" } : {}, cell))));
  const body = element("tbody", {}, ...rows);
  let last = null;
  const heads = section.head.map((name, at) => {
    const head = element("th", { tabindex: 0, title: "sort", ...(section.words[at] ? { class: "word" } : {}) }, name);
    const sort = () => {
      const turn = last === at ? -1 : 1;
      last = turn === 1 ? at : null;
      const keyed = rows.map((row) => [row, section.words[at] ? null : sortKey(row.cells[at].textContent), row.cells[at].textContent]);
      keyed.sort(([, a, one], [, b, two]) => {
        if (a === null || b === null) return a === b ? turn * one.localeCompare(two, undefined, { numeric: true }) : a === null ? 1 : -1;
        return turn * (a - b);
      });
      body.append(...keyed.map(([row]) => row));
      heads.forEach((each, number) => each.setAttribute("aria-sort", number === at ? (turn === 1 ? "ascending" : "descending") : "none"));
    };
    head.onclick = sort;
    head.onkeydown = (event) => { if (event.key === "Enter") sort(); };
    return head;
  });
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
  parent.append(element("h2", {}, section.title), element("div", { class: "scroll" }, table));
  if (section.note) parent.append(element("p", { class: "pale" }, section.note));
}

// ---- the page

function controls() {
  const choice = element("select", { id: "x" }, ...["steps", "frames", "hours"].map((x) => element("option", { value: x }, X_NAMES[x])));
  choice.value = shown.x;
  choice.onchange = () => { shown.x = choice.value; redrawAll(); };
  const slider = element("input", { type: "range", min: 1, max: 51, step: 2, value: 1 });
  slider.oninput = () => { shown.smooth = +slider.value; redrawAll(); };
  const boxes = [["logX", "log x"], ["logY", "log y"], ["bands", "bands"], ["seeds", "single seeds"]].map(([word, text]) => {
    const box = checkbox(text, shown[word], (on) => { shown[word] = on; redrawAll(); });
    box.id = word;
    return box;
  });
  return element("div", { class: "controls" }, element("label", {}, "along ", choice), ...boxes, element("label", {}, "running mean ", slider));
}

function redrawAll() { for (const redraw of redraws) redraw(); }

const page = document.getElementById("page");
page.append(element("h1", {}, data.title), element("p", { class: "pale" }, data.about));
if (data.warnings.length) page.append(element("div", { class: "warnings" }, element("b", {}, "Before you compare"), element("ul", {}, ...data.warnings.map((text) => element("li", {}, text)))));
const pictures = element("section"); // above which the controls stay in sight
page.append(pictures);
if (data.panels.length) {
  const panels = element("div", { class: "panels" });
  pictures.append(element("h2", {}, "Learning curves"), controls(), panels);
  data.panels.forEach((panel) => addPanel(panels, panel));
  pictures.append(element("p", { class: "pale" }, data.curves));
}
if (data.profiles.length) {
  const profiles = element("div", { class: "panels" });
  pictures.append(element("h2", {}, "Performance profiles"), profiles);
  data.profiles.forEach((profile) => addProfile(profiles, profile));
}
data.sections.forEach((section) => addTable(page, section));
if (data.films.length || data.left_out) {
  page.append(element("h2", {}, "Films"), element("div", { class: "films" }, ...data.films.map((film) => {
    const source = `data:${film.kind};base64,${film.data}`;
    const shownFilm = film.kind.startsWith("video/") ? element("video", { controls: "", loop: "", muted: "", src: source }) : element("img", { src: source, alt: film.title });
    return element("figure", {}, shownFilm, element("figcaption", {}, film.title));
  })));
  if (data.left_out) page.append(element("p", { class: "pale" }, data.left_out));
}
redrawAll();
