"""Several tasks and models on one chart: each method against its dense model."""

from __future__ import annotations

from seven_bench.results.sections.section import PageContent, Section

_MARKUP = r"""
{% if several %}
<section class="scripted" aria-labelledby="across-title">
  <div class="head"><h2 id="across-title">Across tasks and models</h2><div class="choices">{{ choice("across-sparsity", "Sparsity") }}</div></div>
  <figure>
    <div class="chart" id="across"></div>
    <figcaption id="across-caption"></figcaption>
  </figure>
</section>
{% endif %}
"""

_SCRIPT = r"""
// Groups with a dense model of their own, measured by a percentage: only those stand on one scale.
const comparable = data.groups.map((other, at) => ({ other, at })).filter(({ other }) =>
  other.metrics[other.metric.name].percent && other.methods.some((method) => method.dense) && other.methods.some((method) => !method.dense && !method.control));

function behindDense(other, sparsity) {
  const { method, sparsity: at, values } = other.runs;
  const measured = values[other.metric.name];
  const of = (index, level) => measured.filter((value, run) => value !== null && method[run] === index && (level === null || at[run] === level));
  const dense = summarise(other.methods.flatMap((one, index) => (one.dense ? of(index, null) : [])));
  return other.methods.map((one, index) => ({ one, index, ...summarise(of(index, sparsity)) })).filter((cell) => !cell.one.dense && cell.n)
    .map((cell) => ({ ...cell, behind: 100 * (cell.mean - dense.mean) * (other.metric.higher ? 1 : -1) }));
}

function drawAcross() {
  const host = $("across");
  if (!host) return;
  const level = Number($("across-sparsity").value);
  const columns = comparable.map(({ other, at }) => ({ other, at, cells: behindDense(other, level).filter((cell) => !hidden.has(cell.one.name)) })).filter((column) => column.cells.length);
  if (!columns.length) return $("across-caption").replaceChildren(), host.replaceChildren(make("p", { class: "empty" }, "No task has this sparsity and a dense model."));
  const box = frame(host, `Points behind the dense model at sparsity ${tellSparsity(level)}, a column a task: ${columns.map(({ other }) => other.title).join("; ")}.`, 12);
  const values = columns.flatMap((column) => column.cells.map((cell) => cell.behind));
  const pad = (Math.max(0, ...values) - Math.min(0, ...values)) * 0.08 || 1;
  const [low, high] = [Math.min(0, ...values) - pad, Math.max(0, ...values) + pad];
  const y = between(low, high, box.bottom, box.top);
  const room = (box.right - box.left) / columns.length;
  const letters = Math.max(4, Math.floor(room / 6.8));
  const short = (text) => (text.length > letters ? `${text.slice(0, letters - 1)}\u2026` : text);
  drawAxes(box, y, niceTicks(low, high, 5), "points against dense", columns.map(({ other }, at) => [box.left + (at + 0.5) * room, short(other.task)]), "");
  box.svg.append(make("line", { x1: box.left, x2: box.right, y1: y(0), y2: y(0), stroke: "var(--ink)", "stroke-width": 1.2, "stroke-dasharray": "5 4" }));
  columns.forEach(({ other, at, cells }, column) => {
    const step = Math.min(18, (room - 16) / cells.length);
    cells.forEach((cell, place) => {
      const x = box.left + (column + 0.5) * room + (place - (cells.length - 1) / 2) * step;
      const spread = cell.n > 1 ? 100 * cell.std : 0;
      const paint = colour(cell.one);
      if (spread) box.svg.append(make("line", { x1: x, x2: x, y1: y(cell.behind - spread), y2: y(cell.behind + spread), stroke: paint, "stroke-width": 1.4, opacity: 0.55 }));
      const told = `${cell.behind < 0 ? "\u2212" : "+"}${Math.abs(cell.behind).toFixed(2)}`;
      box.svg.append(point(marker(cell.one.marker, x, y(cell.behind), 4.6, { class: "mark", fill: paint }),
        `${other.title}, ${cell.one.name}: ${told} points against dense${spread ? ` \u00b1 ${spread.toFixed(2)}` : ""} (${cell.n})`,
        { task: other.task, model: other.model, start: other.start, setting: other.setting, method: cell.one.name, sparsity: level, difference: cell.behind, std: spread || "", n: cell.n },
        [x, y(cell.behind)], () => openGroup(at)));
    });
  });
  host.replaceChildren(box.svg);
  const models = distinct(columns.map(({ other }) => other.model)).join(", ");
  $("across-caption").textContent = `Main metric minus that of the dense model of the same task, model, start and recipe, in points, at sparsity ${tellSparsity(level)} (${models}). Bars: one standard deviation over seeds. A point opens its task.`;
}

function openGroup(at) {
  const wanted = data.groups[at];
  for (const key of ["task", "model", "start", "setting"]) wishes.set(key, wanted[key]);
  chooseGroup();
  for (const key of ["task", "model", "start", "setting"]) wishes.delete(key);
}

addSection({
  remembered: $("across") ? ["across-sparsity"] : [],
  choose() {
    if (!$("across")) return;
    const levels = distinct(comparable.flatMap(({ other }) => other.sparsities)).filter((level) => comparable.filter(({ other }) => other.sparsities.includes(level)).length > 1);
    choose("across-sparsity", levels.sort((a, b) => b - a).map((level) => [level, tellSparsity(level)]));
  },
  draw: drawAcross, wide: true, toggled: true,
});
if ($("across")) listen(["across-sparsity"], drawAcross);
"""


def _context(content: PageContent) -> dict[str, bool]:
    levels = [set(group.sparsities) for group in content.groups if len(group.dense)]
    shared = any(a & b for at, a in enumerate(levels) for b in levels[at + 1 :])
    return {"several": shared}


SECTION = Section(_MARKUP, script=_SCRIPT, context=_context)
