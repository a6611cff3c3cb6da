"""The metric against a cost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from seven_bench.results.sections.numbers import numeric_columns, shorten_all
from seven_bench.results.sections.section import PageContent, Section, all_runs

#: Columns of a run that the page can plot a metric against, and what a reader calls them.
_COSTS = {
    "params.kept": "weights kept",
    "cost.example_equivalents.total": "cost, example equivalents",
    "cost.seconds.total": "seconds",
    "cost.peak_memory_bytes": "peak memory, bytes",
    "efficiency.macs.masked": "MACs of one example, without removed weights",
    "efficiency.bytes.packed": "bytes of the packed file",
    "efficiency.bytes.zstd": "bytes of the model's file under zstd",
}
_NO_COST = ("_low", "_high", ".threads")  # quartiles of what is there, and how it was measured
_DENSE_COSTS = ("efficiency.macs.dense", "efficiency.bytes.dense")  # no method changes them

_MARKUP = r"""
<section class="scripted" aria-labelledby="tradeoff-title">
  <div class="head"><h2 id="tradeoff-title">Trade-off</h2><div class="choices">{{ choice("cost", "Against") }}</div></div>
  <figure>
    <div class="chart" id="tradeoff"></div>
    <figcaption id="tradeoff-caption"></figcaption>
  </figure>
</section>
"""

_SCRIPT = r"""
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
    .filter((p) => Number.isFinite(p.cost));
  if (!points.length) return caption.replaceChildren(), host.replaceChildren(make("p", { class: "empty" }, "Nothing to draw for this choice."));
  const scale = scaleOf(metric);
  const costs = points.map((p) => p.cost);
  const log = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 8;
  const box = frame(host, `${group.metrics[metric].words} against ${group.costs[cost]}`, 24);
  const warp = log ? Math.log10 : (value) => value;
  const ys = points.map((p) => scale * p.value);
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
  // Beaten by less than one standard deviation is not beaten for sure.
  const spread = (a, b) => Math.sqrt(((a.cell.std || 0) ** 2 + (b.cell.std || 0) ** 2) / 2);
  const isNear = (a) => frontier.length > 0 && !frontier.includes(a) && !points.some((b) =>
    (more ? b.cost >= a.cost : b.cost <= a.cost) && sign * (b.value - a.value) > spread(a, b));
  const taken = points.map((p) => ({ x: x(p.cost) - 6, y: y(scale * p.value) - 6, w: 12, h: 12 }));
  for (const p of points) {
    const [px, py] = [x(p.cost), y(scale * p.value)];
    const onFront = frontier.includes(p);
    const near = isNear(p);
    const told = `${p.method.name}${p.method.dense ? "" : ` at ${tellSparsity(p.s)}`}: ${tellCell(p.cell, metric)}, ${group.costs[cost]} ${compact.format(p.cost)}`;
    box.svg.append(point(
      marker(p.method.dense ? "circle" : p.method.marker, px, py, onFront ? 5.4 : near ? 4.6 : 4, { class: "mark", fill: colour(p.method), opacity: onFront || near ? 1 : 0.45, stroke: "var(--paper)" }),
      `${told}${onFront ? ", on the line" : near ? ", within the spread of the line" : ""}`,
      { method: p.method.name, sparsity: p.s, [cost]: p.cost, ...factsOfCell(p.cell, metric), front: onFront ? "yes" : near ? "within the spread" : "no" },
      [px, py], () => showRuns(p.method.index, p.s)));
    if (!onFront && !p.method.dense) continue;
    const words = p.method.dense ? p.method.name : `${p.method.name} ${tellSparsity(p.s)}`;
    const w = words.length * 6.6;
    const spots = [[px + 9, py + 4], [px - 9 - w, py - 7], [px + 9, py - 9], [px - 9 - w, py + 12], [px - w / 2, py - 12], [px - w / 2, py + 20]];
    const free = spots.find(([sx, sy]) => sx > box.left && sx + w < box.width && sy > box.top - 8 && sy < box.bottom - 2
      && !taken.some((t) => sx < t.x + t.w && sx + w > t.x && sy - 11 < t.y + t.h && sy + 2 > t.y));
    if (!free) continue;
    taken.push({ x: free[0], y: free[1] - 11, w, h: 14 });
    box.svg.append(make("text", { class: "name", x: free[0], y: free[1] }, words));
  }
  host.replaceChildren(box.svg);
  caption.textContent = `${captionOf(metric)}, means over seeds. ${frontier.length ? "Points on the dotted line are those that none beats in both; other full marks are beaten by less than a standard deviation." : ""}`;
}

addSection({
  remembered: ["cost"],
  choose: () => choose("cost", Object.entries(group.costs)),
  draw: drawTradeoff, wide: true, toggled: true,
});
listen(["cost"], drawTradeoff);
"""


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    for told, group in zip(payload["groups"], content.groups, strict=True):
        runs = all_runs(group)
        told["costs"] = _list_costs(runs)
        told["runs"]["costs"] = {name: shorten_all(runs[name]) for name in told["costs"]}


def _list_costs(runs: pd.DataFrame) -> dict[str, str]:
    costs = {
        name: words for name, words in _COSTS.items() if name in runs and runs[name].notna().any()
    }
    known = (*costs, *_DENSE_COSTS)
    more = [
        name
        for name in numeric_columns(runs, "efficiency.")
        if name not in known and not name.endswith(_NO_COST)
    ]
    return costs | {name: _say(name) for name in more}


def _say(name: str) -> str:
    return name.partition(".")[2].replace("_", " ").replace(".", ", ")


SECTION = Section(_MARKUP, script=_SCRIPT, fill=_fill)
