"""The metric against measured latency: small, sparse and structured models on one chart."""

from __future__ import annotations

from typing import Any

from seven_bench.results.latencies import (
    Latencies,
    Point,
    list_cells,
    list_latencies,
    milliseconds,
)
from seven_bench.results.sections.section import PageContent, Section
from seven_bench.results.tables import (
    describe_metric,
    format_sparsity,
    format_value,
    is_percentage,
)

#: Markers of `templates/core.js` by form.
_MARKERS = {"dense": "circle", "onednn": "diamond", "csr": "square", "smaller": "triangle"}

_MARKUP = r"""
{% if latencies %}
<section aria-labelledby="latency-title">
  <h2 id="latency-title">What it buys: measured latency</h2>
  {% for family in latencies %}
  {% set at = loop.index0 %}
  <h3>{{ family.told.title }}</h3>
  {% for batch in family.told.batches %}
  <figure class="scripted">
    <div class="chart" id="latency-{{ at }}-{{ batch }}" data-title="{{ family.told.title }} latency at batch {{ batch }}"></div>
    <figcaption>{{ family.metric }} against the median time of a forward pass of {{ batch }} example{{ "s" if batch != 1 }}: circles the model as it is, diamonds the same by oneDNN, squares with layers in the form that was fastest, triangles the model without its removed heads and neurons. Bars: quartiles of the repeats. Named are those that none beats in both.</figcaption>
  </figure>
  {% endfor %}
  <div class="scroll" role="group" tabindex="0" aria-label="Latency, {{ family.told.title }}">
  <table data-title="{{ family.told.title }} latency">
    <thead><tr><th scope="col">Method</th><th scope="col">Sparsity</th><th scope="col">Form</th><th scope="col">Layers</th><th scope="col">{{ family.metric }}</th>{% for batch in family.told.batches %}<th scope="col">ms, batch {{ batch }} (quartiles)</th><th scope="col">dense / it</th>{% endfor %}</tr></thead>
    <tbody>
    {% for row in family.rows %}
      <tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <p class="note">{{ family.told.measured | join("; ") }}. Forms of one run were timed in turns; <em>dense / it</em> is the ratio within that run, and of a small dense model against the dense row. The time of several runs is the median of theirs, their quartiles the widest.</p>
  {% if family.layers %}
  <details class="note"><summary>Which layers took which form</summary>
  <ul>
  {% for words in family.layers %}
    <li>{{ words }}</li>
  {% endfor %}
  </ul>
  </details>
  {% endif %}
  {% endfor %}
</section>
{% endif %}
"""

_SCRIPT = r"""
function drawLatency(family, batch, host) {
  const points = family.points.filter((p) => p.times[batch]).map((p) => ({ ...p, time: p.times[batch] }));
  const box = frame(host, `${family.metric} against milliseconds at batch ${batch}; the table below has the numbers.`, 24);
  const ends = points.flatMap(({ time }) => [time.low, time.high]);
  const [x1, x2] = [Math.min(...ends), Math.max(...ends)];
  const x0 = between(Math.log10(x1) - 0.03, Math.log10(x2) + 0.03, box.left + 12, box.right);
  const x = (value) => x0(Math.log10(value));
  const ys = points.map((p) => p.value);
  const pad = (Math.max(...ys) - Math.min(...ys)) * 0.08 || 1;
  const [low, high] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const y = between(low, high, box.bottom, box.top);
  const log = logTicks(x1, x2);
  const ticks = log.length > 2 ? log : niceTicks(x1, x2, box.width > 620 ? 6 : 3);
  drawAxes(box, y, niceTicks(low, high, 5), family.metric, ticks.map((tick) => [x(tick), compact.format(tick)]), `milliseconds at batch ${batch} (log scale)`);
  const paint = (p) => (p.colour === null ? "var(--ink)" : `var(--m${p.colour})`);
  for (const p of points) box.svg.append(make("line", { x1: x(p.time.low), x2: x(p.time.high), y1: y(p.value), y2: y(p.value), stroke: paint(p), opacity: 0.5 }));
  for (const p of points) {
    const [px, py] = [x(p.time.median), y(p.value)];
    box.svg.append(point(marker(p.marker, px, py, 4.6, { class: "mark", fill: paint(p), stroke: "var(--paper)" }), `${p.name}: ${p.words}, ${p.time.words} ms`,
      { method: p.method, sparsity: p.sparsity, form: p.form, layers: p.layers, [family.metric]: p.value, n: p.n, batch,
        ms: p.time.median, "ms low": p.time.low, "ms high": p.time.high, "dense / it": p.time.ratio }, [px, py]));
    const beats = (o) => o.time.median <= p.time.median && family.sign * o.value >= family.sign * p.value && (o.time.median < p.time.median || o.value !== p.value);
    if (points.some(beats)) continue;
    const left = px > box.width * 0.6;
    box.svg.append(make("text", { class: "name", x: px + (left ? -9 : 9), y: py - 6, "text-anchor": left ? "end" : "start" }, p.name));
  }
  host.replaceChildren(box.svg);
}

addSection({
  draw() {
    (data.latencies ?? []).forEach((family, at) => family.batches.forEach((batch) => drawLatency(family, batch, $(`latency-${at}-${batch}`))));
  },
  wide: true,
});
"""


def _context(content: PageContent) -> dict[str, Any]:
    return {
        "latencies": [
            {
                "told": told,
                "metric": describe_metric(told.metric),
                "rows": [list_cells(told, point) for point in told.points],
                "layers": [f"{_name(p)}: {p.taken}" for p in told.points if p.taken],
            }
            for told in list_latencies(content.groups)
        ]
    }


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    payload["latencies"] = [
        {
            "metric": describe_metric(told.metric),
            "sign": 1 if told.higher_is_better else -1,
            "batches": told.batches,
            "points": [_describe(told, point, content) for point in told.points],
        }
        for told in list_latencies(content.groups)
    ]


def _describe(told: Latencies, point: Point, content: PageContent) -> dict[str, Any]:
    style = content.styles.get(point.style)
    return {
        "name": _name(point),
        "method": point.method,
        "sparsity": None if point.dense else point.sparsity,
        "form": point.form,
        "layers": point.layers,
        "marker": _MARKERS[point.form],
        "colour": None if point.dense or style is None else style.colour,
        "value": (100 if is_percentage(told.metric) else 1) * point.mean,
        "n": point.n,
        "words": format_value(point.mean, told.metric),
        "times": {
            batch: {
                "median": 1e3 * time.median, "low": 1e3 * time.low, "high": 1e3 * time.high,
                "ratio": time.ratio, "words": milliseconds(time.median),
            }
            for batch, time in point.times.items()
        },
    }  # fmt: skip


def _name(point: Point) -> str:
    at = "" if point.dense else f" {format_sparsity(point.sparsity)}"
    return f"{point.method}{at}" + ("" if point.form == "dense" else f", {point.form}")


SECTION = Section(_MARKUP, script=_SCRIPT, context=_context, fill=_fill)
