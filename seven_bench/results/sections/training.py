"""What was measured while runs were trained."""

from __future__ import annotations

from typing import Any

from seven_bench.results.sections.numbers import shorten
from seven_bench.results.sections.section import PageContent, Section, all_methods

_MARKUP = r"""
{% if content.curves | map("length") | sum %}
<section class="scripted" aria-labelledby="training-title">
  <div class="head"><h2 id="training-title">During training</h2><div class="choices">{{ choice("quantity", "Quantity") }}{{ choice("training-sparsity", "Sparsity") }}</div></div>
  <figure>
    <div class="chart" id="training"></div>
    <figcaption id="training-caption"></figcaption>
  </figure>
</section>
{% endif %}
"""

_SCRIPT = r"""
const QUANTITIES = { "train/loss": "training loss", "train/learning_rate": "learning rate", "progress/sparsity": "sparsity" };
const tellQuantity = (name) => QUANTITIES[name] ?? name.replace("/", " ").replaceAll("_", " ");

function drawTraining() {
  const host = $("training");
  if (!host) return;
  const caption = $("training-caption");
  const quantity = $("quantity").value;
  const level = Number($("training-sparsity").value);
  const lines = (group.curves ?? []).map(([index, sparsity, seeds, steps, values]) => ({ method: { ...group.methods[index], index }, sparsity, seeds, steps, values: values[quantity] }))
    .filter((line) => line.values && !hidden.has(line.method.name) && (line.method.dense || line.sparsity === level))
    .map((line) => ({ ...line, dots: line.steps.map((step, at) => [step, line.values[at]]).filter(([, value]) => value !== null) }))
    .filter((line) => line.dots.length);
  if (!lines.length) return caption.replaceChildren(), host.replaceChildren(make("p", { class: "empty" }, "Nothing was written down of these runs' training."));
  const wide = host.clientWidth > 620;
  const longest = Math.max(...lines.map((line) => line.method.name.length));
  const percent = quantity.startsWith("validation/") && group.metrics[quantity.slice(11)]?.percent;
  const scale = percent ? 100 : 1;
  const dots = lines.flatMap((line) => line.dots);
  const words = tellQuantity(quantity);
  const box = frame(host, `${words} over optimizer steps, ${lines.map((line) => line.method.name).join(", ")}.`, wide ? Math.min(210, longest * 6.8 + 34) : 12);
  const values = dots.map(([, value]) => scale * value);
  const pad = (Math.max(...values) - Math.min(...values)) * 0.06 || Math.abs(values[0]) * 0.02 || 1;
  const [low, high] = [Math.min(...values) - pad, Math.max(...values) + pad];
  const last = Math.max(...dots.map(([step]) => step));
  const first = Math.min(...dots.map(([step]) => step));
  const x = between(first, last, box.left + 8, box.right - 8);
  const y = between(low, high, box.bottom, box.top);
  drawAxes(box, y, niceTicks(low, high, 5), `${words}${percent ? " (%)" : ""}`, niceTicks(first, last, wide ? 6 : 4).map((tick) => [x(tick), compact.format(tick)]), "optimizer steps");
  const ends = [];
  for (const line of lines) {
    const paint = colour(line.method);
    const at = line.dots.map(([step, value]) => [x(step), y(scale * value)]);
    box.svg.append(make("path", { d: `M${at.map((place) => place.join(",")).join("L")}`, fill: "none", stroke: paint, "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-dasharray": dashOf(line.method) }));
    line.dots.forEach(([step, value], dot) => {
      const told = percent ? (100 * value).toFixed(2) : String(Number(value.toPrecision(4)));
      box.svg.append(point(marker(line.method.dense ? "circle" : line.method.marker, ...at[dot], 3, { class: "mark", fill: paint }), `${line.method.name}, step ${step}: ${words} ${told}`,
        { method: line.method.name, sparsity: line.sparsity, step, [quantity]: value, seeds: line.seeds }, at[dot], () => showRuns(line.method.index, line.sparsity)));
    });
    ends.push({ x: at.at(-1)[0], y: at.at(-1)[1], name: line.method.name, paint });
  }
  if (wide) nameEnds(box, ends);
  host.replaceChildren(box.svg);
  const counts = distinct(lines.map((line) => line.seeds)).sort((a, b) => a - b);
  caption.textContent = `${words[0].toUpperCase()}${words.slice(1)}, mean over ${counts.join(" to ")} seed${counts.at(-1) === 1 ? "" : "s"}, as ${level ? `trained to sparsity ${tellSparsity(level)}` : "trained"}; after each epoch where nothing else is told.`;
}

addSection({
  remembered: $("training") ? ["quantity", "training-sparsity"] : [],
  choose() {
    if (!$("training")) return;
    const curves = group.curves ?? [];
    const names = distinct(curves.flatMap(([, , , , values]) => Object.keys(values)));
    const main = `validation/${group.metric.name}`;
    names.sort((a, b) => (b === main) - (a === main) || b.startsWith("validation/") - a.startsWith("validation/") || a.localeCompare(b));
    choose("quantity", names.map((name) => [name, tellQuantity(name)]));
    const levels = distinct(curves.filter(([index]) => !group.methods[index].dense).map(([, sparsity]) => sparsity)).sort((a, b) => b - a);
    choose("training-sparsity", (levels.length ? levels : [0]).map((level) => [level, tellSparsity(level)]));
  },
  draw: drawTraining, wide: true, toggled: true,
});
if ($("training")) listen(["quantity", "training-sparsity"], drawTraining);
"""


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    for told, group, curves in zip(payload["groups"], content.groups, content.curves, strict=False):
        methods = all_methods(group)
        told["curves"] = [
            [
                methods.index(curve.method),
                curve.sparsity,
                curve.seeds,
                [shorten(step) for step in curve.steps],
                {name: [shorten(v, 4) for v in row] for name, row in curve.values.items()},
            ]
            for curve in curves
        ]


SECTION = Section(_MARKUP, script=_SCRIPT, fill=_fill)
