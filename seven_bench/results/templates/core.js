"use strict";
// Everything is drawn from the data below the page. Text enters the document as text, never as
// markup, so that a method may be called anything.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const DASH = "\u2013";
const hidden = new Set();
let group;

// ---- Building the document

const SVG_TAGS = new Set(["svg", "g", "path", "line", "circle", "rect", "text", "title"]);

function make(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function choose(id, options, preferred) {
  const select = $(id);
  const values = options.map(([value]) => String(value));
  const wanted = [preferred, wishes.get(id), select.value].find((value) => values.includes(String(value)));
  select.replaceChildren(...options.map(([value, words]) => make("option", { value }, words ?? String(value))));
  select.value = String(wanted ?? values[0] ?? "");
  select.disabled = options.length < 2;
  return select.value;
}

const colour = (method) => (method.dense ? "var(--ink)" : method.control ? "var(--soft)" : `var(--m${method.colour})`);
const DASHES = { solid: null, dashed: "6 4", dotted: "1.5 3.5" };
const dashOf = (method) => (method.dense ? "5 4" : method.control ? DASHES.dotted : DASHES[method.dash]);

function marker(shape, x, y, size, attributes) {
  const s = size;
  const paths = {
    circle: `M${x - s},${y}a${s},${s} 0 1 0 ${2 * s},0a${s},${s} 0 1 0 ${-2 * s},0`,
    square: `M${x - s * 0.9},${y - s * 0.9}h${1.8 * s}v${1.8 * s}h${-1.8 * s}z`,
    triangle: `M${x},${y - 1.2 * s}L${x + 1.15 * s},${y + 0.9 * s}H${x - 1.15 * s}z`,
    diamond: `M${x},${y - 1.3 * s}L${x + 1.3 * s},${y}L${x},${y + 1.3 * s}L${x - 1.3 * s},${y}z`,
  };
  return make("path", { d: paths[shape], ...attributes });
}

function swatch(method) {
  const line = { x1: 0, x2: 27, y1: 6, y2: 6, stroke: colour(method), "stroke-width": 2, "stroke-dasharray": dashOf(method) };
  return make("svg", { class: "swatch", viewBox: "0 0 27 12", "aria-hidden": "true" }, make("line", line),
    method.dense ? null : marker(method.marker, 13.5, 6, 4, { fill: colour(method) }));
}

// ---- Numbers

const metricOf = () => $("metric").value;
const isPercent = (metric) => group.metrics[metric]?.percent;
const scaleOf = (metric) => (isPercent(metric) ? 100 : 1);
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function tell(value, metric) {
  if (value === null || !Number.isFinite(value)) return DASH;
  if (isPercent(metric)) return (100 * value).toFixed(2);
  return Math.abs(value) < 100 ? value.toFixed(4) : String(Number(value.toPrecision(4)));
}

function tellSigned(value, metric) {
  if (value === null) return DASH;
  return (value < 0 ? "\u2212" : "+") + tell(Math.abs(value), metric);
}

const tellCell = (cell, metric) => `${tell(cell.mean, metric)}${cell.n > 1 ? ` \u00b1 ${tell(cell.std, metric)}` : ""} (${cell.n})`;
const factsOfCell = (cell, metric) => ({ [metric]: cell.mean, std: cell.n > 1 ? cell.std : "", n: cell.n });
const tellSparsity = (value) => String(Number(value.toPrecision(6)));
const tellShare = (share) => `${share >= 0.0995 || share === 0 ? Math.round(100 * share) : Number((100 * share).toPrecision(2))}%`;

// A quantity whose better direction is not known gets no bold and no frontier.
function direction(metric) {
  if (metric === group.metric.name) return group.metric.higher ? 1 : -1;
  if (isPercent(metric)) return 1;
  return /loss|error|perplexity/.test(metric) ? -1 : 0;
}

function summarise(values) {
  const n = values.length;
  const mean = n ? values.reduce((sum, value) => sum + value, 0) / n : NaN;
  const std = n > 1 ? Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1)) : NaN;
  return { n, mean, std };
}

// Cells of the group for one metric: method index -> sparsity -> {runs, n, mean, std}.
function collectCells(metric) {
  const { method, sparsity, values } = group.runs;
  const cells = group.methods.map(() => new Map());
  method.forEach((index, run) => {
    const cell = cells[index].get(sparsity[run]) ?? { runs: [] };
    cell.runs.push(run);
    cells[index].set(sparsity[run], cell);
  });
  for (const row of cells) {
    for (const cell of row.values()) {
      const measured = cell.runs.map((run) => values[metric][run]).filter((value) => value !== null);
      Object.assign(cell, summarise(measured));
    }
  }
  return cells;
}

// The number of seeds that most have, and of as common ones the larger: means of fewer are not held
// against theirs.
function usualCount(counts) {
  const often = (n) => counts.filter((other) => other === n).length;
  return Math.max(0, ...counts.filter((n) => counts.every((other) => often(other) <= often(n))));
}

const average = (runs, column) => summarise(runs.map((run) => column[run]).filter((value) => value !== null)).mean;
// ---- Scales

const between = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) ticks.push(tick);
  return ticks.map((tick) => Number(tick.toPrecision(10)));
}

function logTicks(low, high) {
  const ticks = [];
  const steps = Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= low && tick <= high));
  }
  return ticks;
}

// Labels at least `gap` apart, each near where it belongs: neighbours that collide are pooled.
function spreadApart(wanted, gap) {
  const pools = [];
  wanted.forEach((place, index) => {
    pools.push({ sum: place - index * gap, size: 1 });
    while (pools.length > 1 && pools.at(-2).sum / pools.at(-2).size > pools.at(-1).sum / pools.at(-1).size) {
      const last = pools.pop();
      pools.at(-1).sum += last.sum;
      pools.at(-1).size += last.size;
    }
  });
  return pools.flatMap((pool) => Array(pool.size).fill(pool.sum / pool.size)).map((start, index) => start + index * gap);
}

function frame(host, label, rightSpace) {
  const width = Math.max(host.clientWidth, 280);
  const height = Math.round(Math.min(440, Math.max(270, width * 0.46)));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-roledescription": "chart", "aria-label": `${label} Arrow keys go from point to point.` });
  return { svg, width, height, left: 46, right: width - rightSpace, top: 22, bottom: height - 44 };
}

function drawAxes(box, y, yTicks, yWords, xTicks, xWords) {
  for (const tick of yTicks) {
    box.svg.append(make("line", { class: "grid-line", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }),
      make("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  box.svg.append(make("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  let free = Infinity; // from the right: the high sparsities are the ones that matter
  for (const [place, words] of [...xTicks].sort((a, b) => b[0] - a[0])) {
    const half = words.length * 3.4 + 5;
    box.svg.append(make("line", { class: "axis", x1: place, x2: place, y1: box.bottom, y2: box.bottom + 4 }));
    if (place + half > free) continue;
    free = place - half;
    box.svg.append(make("text", { x: place, y: box.bottom + 18, "text-anchor": "middle" }, words));
  }
  box.svg.append(make("text", { x: box.left - 38, y: 10 }, yWords),
    make("text", { x: (box.left + box.right) / 2, y: box.height - 6, "text-anchor": "middle" }, xWords));
}

// The names of lines at their right ends, moved apart.
function nameEnds(box, ends) {
  ends.sort((a, b) => a.y - b.y);
  spreadApart(ends.map((end) => end.y), 15.5).forEach((at, index) => {
    const end = ends[index];
    box.svg.append(
      make("path", { d: `M${end.x + 6},${end.y}L${box.right + 6},${at}h6`, fill: "none", stroke: end.paint, "stroke-width": 1, opacity: 0.6,
        "stroke-dasharray": end.x < box.right - 40 ? "1 4" : null }), // a long way to the name must not look like data
      make("text", { class: "name", x: box.right + 16, y: at + 4 }, end.name.length > 27 ? `${end.name.slice(0, 26)}\u2026` : end.name));
  });
}

const visible = () => group.methods.map((method, index) => ({ ...method, index })).filter((method) => !hidden.has(method.name));

// ---- Words and cells that sections share

function captionOf(metric) {
  const words = group.metrics[metric].words;
  if (metric !== group.metric.name) return words;
  const epoch = { last: "last epoch", best: "epoch that was best on validation" }[group.metric.epoch] ?? `epoch ${group.metric.epoch || "not stated"}`;
  return `${words} on the ${group.metric.split} split at the ${epoch}`;
}
const rowHead = (method) => make("th", { scope: "row" }, swatch(method), method.name);
function cellButton(index, sparsity, cell, metric) {
  if (!cell.n) return DASH;
  const { reached } = group.runs;
  const at = average(cell.runs, reached);
  const strays = !group.methods[index].dense && Math.abs(at - sparsity) > 1e-3;
  return make("button", { class: "cell", type: "button", "data-mean": cell.mean, "data-std": cell.n > 1 ? cell.std : "", "data-n": cell.n, onclick: () => showRuns(index, sparsity) },
    make("b", {}, tell(cell.mean, metric)),
    make("small", {}, `${cell.n > 1 ? ` \u00b1\u00a0${tell(cell.std, metric)}` : ""} (${cell.n})`),
    strays ? make("span", { class: "reached" }, `reached ${at.toFixed(3)}`) : null);
}
function shadeCell(text, strength, attributes) {
  const cell = make("td", attributes, text);
  const part = Math.round(100 * Math.min(1, Math.max(0, strength)));
  cell.style.background = `color-mix(in oklab, var(--shade) ${part}%, var(--hair))`;
  cell.classList.add(part > 80 ? "dark" : "shaded"); // black reads better on the lighter four fifths
  return cell;
}

// Intervals of one table on one axis, better to the right; each is [mean, low, high], the ends null
// where there is no interval. What comes back draws one.
function forestOf(intervals, margin, higher) {
  const bounds = intervals.flatMap(([mean, low, high]) => [mean, low ?? mean, high ?? mean]);
  // One runaway interval must not flatten the others: the axis ends at three times the widest mean.
  const limit = 3 * Math.max(...intervals.map(([mean]) => Math.abs(mean)), margin) || 1e-9;
  const clip = (value) => Math.min(limit, Math.max(-limit, value));
  const ends = [clip(Math.min(...bounds, -margin)), clip(Math.max(...bounds, margin))];
  const x = higher ? between(...ends, 6, 194) : between(...ends, 194, 6);
  const clamp = (value) => Math.min(198, Math.max(2, x(value)));
  return (mean, low, high, paint) => make("svg", { class: "forest", viewBox: "0 0 200 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    margin ? make("rect", { x: Math.min(clamp(-margin), clamp(margin)), width: Math.abs(clamp(margin) - clamp(-margin)), y: 0, height: 24, fill: "var(--hair)" }) : null,
    make("line", { x1: x(0), x2: x(0), y1: -6, y2: 30, stroke: "var(--soft)", "stroke-width": 0.8 }),
    low === null ? null : make("line", { x1: clamp(low), x2: clamp(high), y1: 12, y2: 12, stroke: paint, "stroke-width": 2 }),
    make("rect", { x: clamp(mean) - 3, width: 6, y: 7, height: 10, fill: paint }));
}

// Names may break after a dot, so that long ones do not widen a phone's table.
const breakable = (name) => name.split(/(?<=[._])/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));

// ---- The runs behind a number

function showRuns(index, sparsity) {
  const metric = metricOf();
  const method = group.methods[index];
  const cell = collectCells(metric)[index].get(sparsity);
  $("runs-title").textContent = method.dense ? method.name : `${method.name} at sparsity ${tellSparsity(sparsity)}`;
  const known = group.cells.find(([name, at]) => name === method.name && at === sparsity);
  const parts = [`${group.metrics[metric].words}: mean ${tell(cell.mean, metric)}${cell.n > 1 ? `, standard deviation ${tell(cell.std, metric)}` : ""}, ${cell.n} seed${cell.n === 1 ? "" : "s"}.`];
  if (metric === group.metric.name && known) {
    const [, , low, high, testLow, testHigh] = known;
    if (low !== null) parts.push(`95 % interval of the mean over seeds: ${tell(low, metric)} to ${tell(high, metric)}.`);
    if (testLow !== null) parts.push(`The test set alone leaves open ${tell(testLow, metric)} to ${tell(testHigh, metric)}.`);
  }
  if (!group.commands_recorded) parts.push("The commands name the main choices; whatever else was set is in the config.");
  $("runs-note").textContent = parts.join(" ");
  $("runs-list").replaceChildren(...cell.runs.map((run) => runItem(run, metric)));
  $("runs").showModal();
  $("runs-title").focus();
}

function hrefOf(run, file = "") {
  const [parents, numbers, names] = group.runs.folder;
  return [...parents[numbers[run]].split("/"), names[run]].map(encodeURIComponent).join("/") + `/${file}`;
}

function commandOf(run) {
  const [texts, indices] = group.runs.command;
  return texts[indices[run]].replace("seed={seed}", `seed=${group.runs.seed[run]}`);
}

function commandLine(run) {
  const text = commandOf(run);
  const button = make("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy";
    }
  } }, "Copy");
  return make("div", { class: "command" }, make("code", {}, text), button);
}

function runItem(run, metric) {
  const cost = group.runs.costs["cost.example_equivalents.total"]?.[run];
  return make("li", {},
    make("p", { class: "facts" }, make("strong", {}, group.runs.named[run]), make("span", {}, tell(group.runs.values[metric][run], metric)),
      group.runs.unsealed.includes(run) ? make("span", {}, "no seal") : null,
      group.runs.reached[run] === null ? null : make("span", {}, `sparsity ${group.runs.reached[run]}`),
      cost === null || cost === undefined ? null : make("span", {}, `${compact.format(cost)} example equivalents`),
      make("a", { href: hrefOf(run) }, "folder"), make("a", { href: hrefOf(run, "result.json") }, "record"),
      make("a", { href: hrefOf(run, "config.yaml") }, "config")),
    commandLine(run));
}

// ---- Choices and sections

const wishes = new URLSearchParams(location.hash.slice(1));
const remembered = ["task", "model", "start", "setting", "metric"];

function remember() {
  const now = new URLSearchParams(remembered.filter((id) => !$(id).disabled).map((id) => [id, $(id).value]));
  history.replaceState(null, "", `#${now}`);
}

const distinct = (values) => [...new Set(values)];

function listen(ids, react) {
  for (const id of ids) $(id).addEventListener("change", () => { wishes.delete(id); react(); remember(); });
}

// What a section does: `choose` fills its own selects for a new group, `draw` draws it; `wide` says
// that its drawing hangs on the window's width, `toggled` on the methods that are switched on.
const sections = [];

function addSection(section) {
  sections.push(section);
  remembered.push(...(section.remembered ?? []));
}

function redraw(trait) {
  for (const section of sections) if (section[trait]) section.draw();
}
