"""The metric over sparsity: a line a method."""

from __future__ import annotations

from seven_bench.results.sections.section import Section

_MARKUP = r"""
<section class="scripted" aria-labelledby="curve-title">
  <div class="head"><h2 id="curve-title">Over sparsity</h2><div class="choices">{{ choice("scale", "Sparsity axis") }}</div></div>
  <figure>
    <fieldset id="methods"></fieldset>
    <div class="chart" id="curve"></div>
    <figcaption id="curve-caption"></figcaption>
  </figure>
</section>
"""

_SCRIPT = r"""
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
        const [sparsity] = [...row].find(([, other]) => other === cell);
        box.svg.append(
          make("line", { x1: box.left, x2: box.right, y1: at, y2: at, stroke: paint, "stroke-width": 1.3, "stroke-dasharray": dashOf(method) }),
          point(marker("circle", box.left, at, 3.4, { class: "mark", fill: paint }), `${method.name}: ${tellCell(cell, metric)}`,
            { method: method.name, sparsity, ...factsOfCell(cell, metric) }, [box.left, at], () => showRuns(method.index, sparsity)));
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
        box.svg.append(hint(make("circle", { class: "seed", cx: p.x, cy: y(scale * value), r: 2.4, fill: paint, onclick: () => showRuns(method.index, p.s) }),
          `${method.name}, sparsity ${tellSparsity(p.s)}, ${group.runs.named[run]}: ${tell(value, metric)}`));
      }
      box.svg.append(point(
        marker(method.marker, p.x, p.y, 4.2, { class: "mark", fill: paint, stroke: "var(--paper)", "stroke-width": 1 }),
        `${method.name}, sparsity ${tellSparsity(p.s)}: ${tellCell(p.cell, metric)}`,
        { method: method.name, sparsity: p.s, ...factsOfCell(p.cell, metric) }, [p.x, p.y], () => showRuns(method.index, p.s)));
    }
    ends.push({ x: points.at(-1).x, y: points.at(-1).y, name: method.name, paint });
  }
  if (wide) nameEnds(box, ends);
  host.replaceChildren(box.svg);
  const majority = metric === group.metric.name && group.majority !== null ? ` The majority class alone has ${tell(group.majority, metric)}.` : "";
  $("curve-caption").textContent = `${captionOf(metric)}. Lines are means over seeds, bands one standard deviation to each side, dots single runs. The dashed line is the dense model under the same training.${majority}`;
}

function drawToggles() {
  $("methods").replaceChildren(make("legend", { class: "visually-hidden" }, "Methods to draw"), ...group.methods.map((method) => {
    const box = make("input", { type: "checkbox", checked: !hidden.has(method.name), onchange: () => {
      box.checked ? hidden.delete(method.name) : hidden.add(method.name);
      redraw("toggled");
    } });
    return make("label", { class: "toggle" }, box, swatch(method), method.name);
  }));
}

addSection({
  remembered: ["scale"],
  choose() {
    const crowded = group.sparsities.length > 2 && group.sparsities.at(-1) > 0.9 && group.sparsities.at(-1) < 1;
    choose("scale", [["linear", "linear"], ["log", "log of what is kept"]], wishes.get("scale") ?? (crowded ? "log" : "linear"));
    drawToggles();
  },
  draw: drawCurve, wide: true, toggled: true,
});
listen(["scale"], drawCurve);
"""

SECTION = Section(_MARKUP, script=_SCRIPT)
