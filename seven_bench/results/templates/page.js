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

const colour = (method) => (method.dense ? "var(--ink)" : `var(--m${method.colour})`);
const DASHES = { solid: null, dashed: "6 4", dotted: "1.5 3.5" };
const dashOf = (method) => (method.dense ? "5 4" : DASHES[method.dash]);

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
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
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

const visible = () => group.methods.map((method, index) => ({ ...method, index })).filter((method) => !hidden.has(method.name));

// ---- Metric over sparsity

function drawCurve() {
  const metric = metricOf();
  const host = $("curve");
  const cells = collectCells(metric);
  const wide = host.clientWidth > 620;
  const shown = visible();
  const longest = Math.max(0, ...shown.map((method) => method.name.length));
  const box = frame(host, `${group.metrics[metric].words} over sparsity, ${shown.map((m) => m.name).join(", ")}. The table below holds the numbers.`,
    wide ? Math.min(210, longest * 6.8 + 34) : 12);
  const scale = scaleOf(metric);
  const lows = [], highs = [];
  for (const method of shown) {
    for (const cell of cells[method.index].values()) {
      if (!cell.n) continue;
      const values = cell.runs.map((run) => group.runs.values[metric][run]).filter((value) => value !== null);
      lows.push(Math.min(cell.mean - (cell.std || 0), ...values));
      highs.push(Math.max(cell.mean + (cell.std || 0), ...values));
    }
  }
  if (!lows.length) return host.replaceChildren(make("p", { class: "empty" }, "No runs to draw: every method is switched off, or none has this metric."));
  let [low, high] = [scale * Math.min(...lows), scale * Math.max(...highs)];
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.02 || 1;
  [low, high] = [low - pad, high + pad];
  const y = between(low, high, box.bottom, box.top);
  const place = $("scale").value === "log" ? (s) => -Math.log10(Math.max(1 - s, 1e-6)) : (s) => s;
  const levels = group.sparsities.length ? group.sparsities : [0];
  const inset = levels.length > 1 ? 14 : (box.right - box.left) / 2;
  const x0 = between(place(levels[0]), place(levels.at(-1)), box.left + inset, box.right - inset);
  const x = (sparsity) => x0(place(sparsity));
  drawAxes(box, y, niceTicks(low, high, 5), group.metrics[metric].words, levels.map((s) => [x(s), tellSparsity(s)]),
    "sparsity: fraction of prunable weights removed");
  const ends = [];
  for (const method of shown) {
    const row = cells[method.index];
    const paint = colour(method);
    if (method.dense) {
      for (const cell of row.values()) {
        if (!cell.n) continue;
        const at = y(scale * cell.mean);
        if (cell.n > 1) {
          const [top, bottom] = [y(scale * (cell.mean + cell.std)), y(scale * (cell.mean - cell.std))];
          box.svg.append(make("rect", { x: box.left, width: box.right - box.left, y: top, height: bottom - top, fill: paint, opacity: 0.06 }));
        }
        box.svg.append(make("line", { x1: box.left, x2: box.right, y1: at, y2: at, stroke: paint, "stroke-width": 1.3, "stroke-dasharray": dashOf(method) }));
        ends.push({ x: box.right, y: at, name: method.name, paint });
      }
      continue;
    }
    const points = levels.filter((s) => row.get(s)?.n).map((s) => ({ s, cell: row.get(s), x: x(s), y: y(scale * row.get(s).mean) }));
    if (!points.length) continue;
    const edge = (sign) => points.map((p) => `${p.x},${y(scale * (p.cell.mean + sign * (p.cell.std || 0)))}`);
    box.svg.append(
      make("path", { d: `M${[...edge(1), ...edge(-1).reverse()].join("L")}z`, fill: paint, opacity: 0.13 }),
      make("path", { d: `M${points.map((p) => `${p.x},${p.y}`).join("L")}`, fill: "none", stroke: paint, "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": dashOf(method) }));
    for (const p of points) {
      for (const run of p.cell.runs) {
        const value = group.runs.values[metric][run];
        if (value === null || p.cell.n < 2) continue;
        box.svg.append(make("circle", { class: "seed", cx: p.x, cy: y(scale * value), r: 2.4, fill: paint, onclick: () => showRuns(method.index, p.s) },
          make("title", {}, `${method.name}, sparsity ${tellSparsity(p.s)}, seed ${group.runs.seed[run]}: ${tell(value, metric)}`)));
      }
      const mark = marker(method.marker, p.x, p.y, 4.2, { class: "mark", fill: paint, stroke: "var(--paper)", "stroke-width": 1, onclick: () => showRuns(method.index, p.s) });
      mark.append(make("title", {}, `${method.name}, sparsity ${tellSparsity(p.s)}: ${tell(p.cell.mean, metric)}${p.cell.n > 1 ? ` \u00b1 ${tell(p.cell.std, metric)}` : ""} (${p.cell.n})`));
      box.svg.append(mark);
    }
    ends.push({ x: points.at(-1).x, y: points.at(-1).y, name: method.name, paint });
  }
  if (wide) {
    ends.sort((a, b) => a.y - b.y);
    spreadApart(ends.map((end) => end.y), 15.5).forEach((at, index) => {
      const end = ends[index];
      box.svg.append(
        make("path", { d: `M${end.x + 6},${end.y}L${box.right + 6},${at}h6`, fill: "none", stroke: end.paint, "stroke-width": 1, opacity: 0.6,
          "stroke-dasharray": end.x < box.right - 40 ? "1 4" : null }), // a long way to the name must not look like data
        make("text", { class: "name", x: box.right + 16, y: at + 4 }, end.name.length > 27 ? `${end.name.slice(0, 26)}\u2026` : end.name));
    });
  }
  host.replaceChildren(box.svg);
  const majority = metric === group.metric.name && group.majority !== null ? ` The majority class alone has ${tell(group.majority, metric)}.` : "";
  $("curve-caption").textContent = `${captionOf(metric)}. Lines are means over seeds, bands one standard deviation to each side, dots single runs. The dashed line is the dense model under the same training.${majority}`;
}

function captionOf(metric) {
  const words = group.metrics[metric].words;
  if (metric !== group.metric.name) return words;
  const epoch = { last: "last epoch", best: "epoch that was best on validation" }[group.metric.epoch] ?? `epoch ${group.metric.epoch || "not stated"}`;
  return `${words} on the ${group.metric.split} split at the ${epoch}`;
}

function drawToggles() {
  $("methods").replaceChildren(make("legend", { class: "visually-hidden" }, "Methods to draw"), ...group.methods.map((method) => {
    const box = make("input", { type: "checkbox", checked: !hidden.has(method.name), onchange: () => {
      box.checked ? hidden.delete(method.name) : hidden.add(method.name);
      drawCurve();
      drawTradeoff();
    } });
    return make("label", { class: "toggle" }, box, swatch(method), method.name);
  }));
}

// ---- Table

function columnsOf(cells) {
  const pruned = group.methods.map((method, index) => ({ method, index })).filter(({ method }) => !method.dense);
  const shared = group.sparsities.filter((s) => pruned.filter(({ index }) => cells[index].has(s)).length > 1);
  return shared.length ? shared : group.sparsities;
}

function drawTable() {
  const metric = metricOf();
  const cells = collectCells(metric);
  const columns = columnsOf(cells);
  const sign = direction(metric);
  const best = columns.map((s) => Math.max(...group.methods.map((method, index) =>
    method.dense || !cells[index].get(s)?.n ? -Infinity : sign * cells[index].get(s).mean)));
  const rows = group.methods.filter((method) => method.dense).map((method) => {
    const [sparsity, cell] = [...cells[group.methods.indexOf(method)]][0];
    return make("tr", { class: "whole" }, rowHead(method),
      make("td", { colspan: columns.length || 1 }, cellButton(group.methods.indexOf(method), sparsity, cell, metric)));
  });
  if (metric === group.metric.name && group.majority !== null) {
    rows.push(make("tr", { class: "whole" }, make("th", { scope: "row" }, "majority class"),
      make("td", { colspan: columns.length || 1 }, make("b", {}, tell(group.majority, metric)))));
  }
  group.methods.forEach((method, index) => {
    if (method.dense) return;
    rows.push(make("tr", {}, rowHead(method), columns.map((s, column) => {
      const cell = cells[index].get(s);
      if (!cell?.n) return make("td", {}, DASH);
      const isBest = sign !== 0 && tell(cell.mean, metric) === tell(sign * best[column], metric);
      const isNear = !isBest && sign !== 0 && metric === group.metric.name && group.margin !== null
        && best[column] - sign * cell.mean <= group.margin * (1 + 1e-9);
      return make("td", { class: isBest ? "best" : isNear ? "near" : null }, cellButton(index, s, cell, metric));
    })));
  });
  $("table").classList.toggle("stacked", columns.length > 6); // the spread goes below the mean
  $("table").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Method"),
      columns.length ? columns.map((s) => make("th", { scope: "col" }, tellSparsity(s))) : make("th", { scope: "col" }, "dense"))),
    make("tbody", {}, rows));
  $("table-caption").textContent = (metric === group.metric.name ? group.caption
    : `${captionOf(metric)}: mean \u00b1 standard deviation over seeds (number of seeds). Columns are target sparsities, the fraction of prunable weights removed.`)
    + " Each number opens its runs.";
}

const rowHead = (method) => make("th", { scope: "row" }, swatch(method), method.name);

function cellButton(index, sparsity, cell, metric) {
  if (!cell.n) return DASH;
  const { reached } = group.runs;
  const at = average(cell.runs, reached);
  const strays = !group.methods[index].dense && Math.abs(at - sparsity) > 1e-3;
  return make("button", { class: "cell", type: "button", onclick: () => showRuns(index, sparsity) },
    make("b", {}, tell(cell.mean, metric)),
    make("small", {}, `${cell.n > 1 ? ` \u00b1\u00a0${tell(cell.std, metric)}` : ""} (${cell.n})`),
    strays ? make("span", { class: "reached" }, `reached ${at.toFixed(3)}`) : null);
}

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
    make("p", { class: "facts" }, make("strong", {}, `seed ${group.runs.seed[run]}`), make("span", {}, tell(group.runs.values[metric][run], metric)),
      group.runs.reached[run] === null ? null : make("span", {}, `sparsity ${group.runs.reached[run]}`),
      cost === null || cost === undefined ? null : make("span", {}, `${compact.format(cost)} example equivalents`),
      make("a", { href: hrefOf(run) }, "folder"), make("a", { href: hrefOf(run, "result.json") }, "record"),
      make("a", { href: hrefOf(run, "config.yaml") }, "config")),
    commandLine(run));
}

// ---- Trade-off

function drawTradeoff() {
  const metric = metricOf();
  const host = $("tradeoff");
  const cost = $("cost").value;
  const column = group.runs.costs[cost];
  const caption = $("tradeoff-caption");
  if (!column) return caption.replaceChildren(), host.replaceChildren(make("p", { class: "empty" }, "These records hold no costs."));
  const more = /per_second|speed_?up|throughput/.test(cost);
  const cells = collectCells(metric);
  const points = visible().flatMap((method) => [...cells[method.index]].filter(([, cell]) => cell.n).map(([s, cell]) => ({ method, s, cell, cost: average(cell.runs, column), value: cell.mean })))
    .filter((point) => Number.isFinite(point.cost));
  if (!points.length) return caption.replaceChildren(), host.replaceChildren(make("p", { class: "empty" }, "Nothing to draw for this choice."));
  const scale = scaleOf(metric);
  const costs = points.map((point) => point.cost);
  const log = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 8;
  const box = frame(host, `${group.metrics[metric].words} against ${group.costs[cost]}`, 24);
  const warp = log ? Math.log10 : (value) => value;
  const ys = points.map((point) => scale * point.value);
  const pad = (Math.max(...ys) - Math.min(...ys)) * 0.08 || 1;
  const [low, high] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const y = between(low, high, box.bottom, box.top);
  const [x1, x2] = [Math.min(...costs), Math.max(...costs)];
  const x0 = between(warp(x1), warp(x2), box.left + 18, box.right - 18);
  const x = (value) => x0(warp(value));
  const ticks = log ? logTicks(x1, x2) : niceTicks(x1, x2, box.width > 620 ? 6 : 4);
  drawAxes(box, y, niceTicks(low, high, 5), group.metrics[metric].words, ticks.map((tick) => [x(tick), compact.format(tick)]),
    `${group.costs[cost]}${log ? " (log scale)" : ""}`);
  const sign = direction(metric);
  const frontier = sign === 0 ? [] : points.filter((a) => !points.some((b) =>
    (more ? b.cost >= a.cost : b.cost <= a.cost) && sign * b.value >= sign * a.value && (b.cost !== a.cost || b.value !== a.value)));
  frontier.sort((a, b) => a.cost - b.cost);
  if (frontier.length > 1) {
    const corner = (p, i) => (i === 0 ? `M${x(p.cost)},${y(scale * p.value)}` : more ? `V${y(scale * p.value)}H${x(p.cost)}` : `H${x(p.cost)}V${y(scale * p.value)}`);
    box.svg.append(make("path", { class: "frontier", d: frontier.map(corner).join("") }));
  }
  const taken = points.map((p) => ({ x: x(p.cost) - 6, y: y(scale * p.value) - 6, w: 12, h: 12 }));
  for (const point of points) {
    const [px, py] = [x(point.cost), y(scale * point.value)];
    const onFront = frontier.includes(point);
    const mark = marker(point.method.dense ? "circle" : point.method.marker, px, py, onFront ? 5.4 : 4, {
      class: "mark", fill: colour(point.method), opacity: onFront ? 1 : 0.5, stroke: "var(--paper)", onclick: () => showRuns(point.method.index, point.s) });
    mark.append(make("title", {}, `${point.method.name}${point.method.dense ? "" : ` at ${tellSparsity(point.s)}`}: ${tell(point.value, metric)}, ${group.costs[cost]} ${compact.format(point.cost)}`));
    box.svg.append(mark);
    if (!onFront && !point.method.dense) continue;
    const words = point.method.dense ? point.method.name : `${point.method.name} ${tellSparsity(point.s)}`;
    const w = words.length * 6.6;
    const spots = [[px + 9, py + 4], [px - 9 - w, py - 7], [px + 9, py - 9], [px - 9 - w, py + 12], [px - w / 2, py - 12], [px - w / 2, py + 20]];
    const free = spots.find(([sx, sy]) => sx > box.left && sx + w < box.width && sy > box.top - 8 && sy < box.bottom - 2
      && !taken.some((t) => sx < t.x + t.w && sx + w > t.x && sy - 11 < t.y + t.h && sy + 2 > t.y));
    if (!free) continue;
    taken.push({ x: free[0], y: free[1] - 11, w, h: 14 });
    box.svg.append(make("text", { class: "name", x: free[0], y: free[1] }, words));
  }
  host.replaceChildren(box.svg);
  caption.textContent = `${captionOf(metric)}, means over seeds. ${frontier.length ? "Points on the dotted line are those that none beats in both." : ""}`;
}

// ---- Comparison

function drawComparison() {
  const metric = group.metric.name;
  const reference = $("reference").value;
  const level = Number($("level").value);
  const rows = (group.against[reference] ?? []).filter(([, at]) => group.sparsities[at] === level);
  const caption = $("comparison-caption");
  if (!rows.length) {
    $("comparison").replaceChildren();
    caption.textContent = "No method shares a seed with this reference here.";
    return;
  }
  const [tests, needed] = group.families[reference];
  const bounds = rows.flatMap(([, , , difference, low, high]) => [difference, low ?? difference, high ?? difference]);
  // One runaway interval must not flatten the others: the axis ends at three times the widest mean.
  const limit = 3 * Math.max(...rows.map((row) => Math.abs(row[3])), group.margin ?? 0) || 1e-9;
  const clip = (value) => Math.min(limit, Math.max(-limit, value));
  const sign = group.metric.higher ? 1 : -1;
  const ends = [clip(Math.min(...bounds, -(group.margin ?? 0))), clip(Math.max(...bounds, group.margin ?? 0))];
  const x = sign > 0 ? between(...ends, 6, 194) : between(...ends, 194, 6); // better is to the right
  const clamp = (value) => Math.min(198, Math.max(2, x(value)));
  const body = rows.map(([index, , pairs, difference, low, high, effect, p, word]) => {
    const method = group.methods[index];
    const words = group.words[word];
    const tone = /^better/.test(words) ? "good" : /^worse/.test(words) ? "bad" : null;
    const forest = make("svg", { class: "forest", viewBox: "0 0 200 24", preserveAspectRatio: "none", "aria-hidden": "true" },
      group.margin ? make("rect", { x: Math.min(clamp(-group.margin), clamp(group.margin)), width: Math.abs(clamp(group.margin) - clamp(-group.margin)), y: 0, height: 24, fill: "var(--hair)" }) : null,
      make("line", { x1: x(0), x2: x(0), y1: -6, y2: 30, stroke: "var(--soft)", "stroke-width": 0.8 }),
      low === null ? null : make("line", { x1: clamp(low), x2: clamp(high), y1: 12, y2: 12, stroke: colour(method), "stroke-width": 2 }),
      make("rect", { x: clamp(difference) - 3, width: 6, y: 7, height: 10, fill: colour(method) }));
    return make("tr", {}, rowHead(method),
      make("td", {}, tellSigned(difference, metric)), make("td", { class: "left" }, forest),
      make("td", { class: `left verdict ${tone ?? ""}` }, words.replace(/(\d+) of (\d+)/, "$1\u00a0of\u00a0$2")),
      make("td", {}, low === null ? DASH : `${tellSigned(low, metric)} to ${tellSigned(high, metric)}`),
      make("td", {}, String(pairs)),
      make("td", {}, effect === null ? DASH : effect.toFixed(2).replace("-", "\u2212")),
      make("td", {}, p === null ? DASH : p < 0.001 ? "< 0.001" : p.toFixed(3)));
  });
  const heads = [["Method", null], ["Difference", null], ["worse \u2190 \u2192 better", "left forest-head"], ["In words", "left"], ["95 % interval", null], ["Seeds", null], ["d", null], ["p, Holm", null]];
  $("comparison").replaceChildren(make("thead", {}, make("tr", {}, heads.map(([words, name]) => make("th", { scope: "col", class: name }, words)))), make("tbody", {}, body));
  const margin = group.margin === null ? "No margin of equality was stated." : `The shaded margin of equality is \u00b1 ${tell(group.margin, metric)}.`;
  caption.textContent = `${captionOf(metric)}${isPercent(metric) ? ", in points" : ""}: method minus ${reference}, paired by seed, with the paired t-interval and the effect size d (mean over standard deviation of the differences). One family of ${tests} test${tests === 1 ? "" : "s"}, every method at every sparsity compared, corrected by Holm; it takes ${needed} shared seeds to reject anything. ${margin}`;
}

// ---- Layers

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STEPS = ALPHABET.length ** 2 - 1;

function unpack(text) {
  const shares = [];
  for (let at = 0; at < text.length; at += 2) shares.push(((ALPHABET.indexOf(text[at]) * 64 + ALPHABET.indexOf(text[at + 1])) / STEPS) ** 2);
  return shares;
}

function shadeCell(text, strength, attributes) {
  const cell = make("td", attributes, text);
  const part = Math.round(100 * Math.min(1, Math.max(0, strength)));
  cell.style.background = `color-mix(in oklab, var(--shade) ${part}%, var(--hair))`;
  if (part > 55) cell.classList.add("dark");
  return cell;
}

// Names may break after a dot, so that long ones do not widen a phone's table.
const breakable = (name) => name.split(/(?<=[._])/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));

function commonPrefix(names) {
  if (names.length < 2) return 0;
  const parts = names.map((name) => name.split("."));
  let depth = 0;
  while (parts.every((p) => p.length > depth + 1 && p[depth] === parts[0][depth])) depth++;
  return depth;
}

function drawLayers() {
  const caption = $("layers-caption");
  const method = group.methods.findIndex(({ name }) => name === $("layer-method").value);
  const run = group.runs.method.findIndex((index, at) => index === method
    && group.runs.sparsity[at] === Number($("layer-sparsity").value) && group.runs.seed[at] === Number($("layer-seed").value));
  const packed = run < 0 ? null : group.runs.layers[run];
  if (!packed) {
    $("layers").replaceChildren();
    caption.textContent = "This run records no layers.";
    return;
  }
  const { names, totals } = data.layers[packed[0]];
  const shares = unpack(packed[1]);
  const most = Math.max(...shares, 1e-9);
  const paint = (at, span) => shadeCell(tellShare(shares[at]), Math.sqrt(shares[at] / most) * 0.9,
    { class: shares[at] === 0 && totals[at] ? "empty-layer" : null, colspan: span, title: `${names[at]}: ${tellShare(shares[at])} of ${totals[at].toLocaleString("en")} weights` });
  // Transformers repeat their layers: one row a block, one column a kind of layer.
  const blocks = new Map();
  const kinds = [];
  names.forEach((name, at) => {
    const [, block, kind] = name.replace(/\.weight$/, "").match(/^(.*?(?<![^.])\d+)\.(.+)$/) ?? [null, name, null];
    if (kind !== null && !kinds.includes(kind)) kinds.push(kind);
    if (!blocks.has(block)) blocks.set(block, new Map());
    blocks.get(block).set(kind, at);
  });
  const inBlocks = [...blocks].filter(([, row]) => !row.has(null)).map(([block]) => block);
  const depth = commonPrefix(inBlocks);
  const cut = commonPrefix(kinds);
  const rows = [...blocks].map(([block, row]) => {
    const words = row.has(null) ? block : block.split(".").slice(depth).join(".");
    const label = /^\d+$/.test(words) ? `block ${words}` : words;
    return make("tr", {}, make("th", { scope: "row" }, breakable(label)), row.has(null) ? paint(row.get(null), Math.max(kinds.length, 1))
      : kinds.map((kind) => (row.has(kind) ? paint(row.get(kind)) : make("td", {}, DASH))));
  });
  const heads = kinds.map((kind) => make("th", { scope: "col" }, breakable(kind.split(".").slice(cut).join("."))));
  $("layers").replaceChildren(make("thead", {}, make("tr", {}, make("td"), heads)), make("tbody", {}, rows));
  const empty = shares.filter((share, at) => share === 0 && totals[at]).length;
  caption.replaceChildren(`Share of the weights kept in each layer of one run${empty ? `; ${empty} layer${empty === 1 ? " is" : "s are"} empty` : ""}. `,
    make("a", { href: hrefOf(run) }, "Its folder"), ". Repeat it with ", make("code", {}, commandOf(run)), ".");
}

// ---- Overlap

function drawOverlap() {
  const level = $("overlap-sparsity").value;
  const pairs = group.overlap[level] ?? [];
  const unread = group.unread ? ` ${group.unread} mask files were left unread; --mask-budget raises the limit.` : "";
  if (!pairs.length) {
    $("overlap").replaceChildren();
    $("overlap-caption").textContent = `No two masks of one seed and sparsity to compare.${unread}`;
    return;
  }
  const found = new Map(pairs.flatMap(([a, b, value, n]) => [[`${a}\n${b}`, { value, n }], [`${b}\n${a}`, { value, n }]]));
  const named = new Set(pairs.flatMap(([a, b]) => [a, b]));
  const methods = group.methods.filter(({ name }) => named.has(name));
  const rows = methods.map((row, at) => make("tr", {}, rowHead(row), methods.slice(0, -1).map((column, across) => {
    if (across >= at) return make("td");
    const pair = found.get(`${row.name}\n${column.name}`);
    return pair ? shadeCell(pair.value.toFixed(2), pair.value * 0.95, { title: `${row.name} and ${column.name}: ${pair.value.toFixed(3)}, ${pair.n} seed${pair.n === 1 ? "" : "s"}` }) : make("td", {}, DASH);
  })));
  $("overlap").replaceChildren(make("thead", {}, make("tr", {}, make("td"), methods.slice(0, -1).map(({ name }) => make("th", { scope: "col" }, breakable(name))))), make("tbody", {}, rows.slice(1)));
  const density = 1 - Number(level);
  const seeds = [...new Set(pairs.map(([, , , n]) => n))].sort((a, b) => a - b);
  $("overlap-caption").textContent = `Jaccard overlap of the kept weights, methods of the same seed: kept by both over kept by either, mean over ${seeds.join(" to ")} seed${seeds.at(-1) === 1 ? "" : "s"}. Two independent random masks of this sparsity have ${(density / (2 - density)).toFixed(2)}.${unread}`;
}

// ---- Choices

const wishes = new URLSearchParams(location.hash.slice(1));
const remembered = ["task", "model", "start", "setting", "metric", "scale", "cost", "reference", "level"];

function remember() {
  const now = new URLSearchParams(remembered.filter((id) => !$(id).disabled).map((id) => [id, $(id).value]));
  history.replaceState(null, "", `#${now}`);
}

const distinct = (values) => [...new Set(values)];

function chooseGroup() {
  let left = data.groups;
  for (const key of ["task", "model", "start", "setting"]) {
    const value = choose(key, distinct(left.map((item) => item[key])).map((v) => [v, v || "default"]));
    left = left.filter((item) => item[key] === value);
  }
  $("setting").closest("label").hidden = $("setting").disabled;
  group = left[0];
  choose("metric", Object.entries(group.metrics).map(([name, { words }]) => [name, words]));
  const crowded = group.sparsities.length > 2 && group.sparsities.at(-1) > 0.9 && group.sparsities.at(-1) < 1;
  choose("scale", [["linear", "linear"], ["log", "log of what is kept"]], wishes.get("scale") ?? (crowded ? "log" : "linear"));
  choose("cost", Object.entries(group.costs));
  const references = Object.keys(group.against);
  choose("reference", references.map((name) => [name]), [wishes.get("reference"), data.reference].find((name) => references.includes(name)));
  chooseLevel();
  chooseLayer();
  const levels = Object.keys(group.overlap).sort((a, b) => b - a);
  choose("overlap-sparsity", levels.map((level) => [level]));
  drawAll();
}

function chooseLevel() {
  const rows = group.against[$("reference").value] ?? [];
  const levels = distinct(rows.map(([, at]) => group.sparsities[at])).sort((a, b) => b - a);
  choose("level", levels.map((level) => [level, tellSparsity(level)]));
}

function chooseLayer() {
  const runs = group.runs.layers.flatMap((packed, run) => (packed ? [run] : []));
  const names = distinct(runs.map((run) => group.runs.method[run])).sort((a, b) => a - b).map((index) => group.methods[index]);
  names.sort((a, b) => a.dense - b.dense);
  const method = choose("layer-method", names.map(({ name }) => [name]));
  const own = runs.filter((run) => group.methods[group.runs.method[run]].name === method);
  const sparsity = choose("layer-sparsity", distinct(own.map((run) => group.runs.sparsity[run])).sort((a, b) => b - a).map((s) => [s, tellSparsity(s)]));
  const seeds = own.filter((run) => String(group.runs.sparsity[run]) === sparsity).map((run) => group.runs.seed[run]);
  choose("layer-seed", distinct(seeds).sort((a, b) => a - b).map((seed) => [seed]));
}

function drawAll() {
  drawToggles();
  drawCurve();
  drawTable();
  drawTradeoff();
  drawComparison();
  drawLayers();
  drawOverlap();
  remember();
  $("status").textContent = `Showing ${group.title}, ${group.metrics[metricOf()].words}`;
}

function listen(ids, react) {
  for (const id of ids) $(id).addEventListener("change", () => { wishes.delete(id); react(); remember(); });
}

listen(["task", "model", "start", "setting"], chooseGroup);
listen(["metric"], drawAll);
listen(["scale"], drawCurve);
listen(["cost"], drawTradeoff);
listen(["reference"], () => { chooseLevel(); drawComparison(); });
listen(["level"], drawComparison);
listen(["layer-method", "layer-sparsity", "layer-seed"], () => { chooseLayer(); drawLayers(); });
listen(["overlap-sparsity"], drawOverlap);
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
$("runs").addEventListener("click", (event) => { if (event.target === $("runs")) $("runs").close(); });
chooseGroup();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawCurve(); drawTradeoff(); } });
addEventListener("beforeprint", () => { drawCurve(); drawTradeoff(); });
