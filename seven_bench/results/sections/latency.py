"""The metric against measured latency: small, sparse and structured models on one chart."""

from __future__ import annotations

import math
from dataclasses import dataclass
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

_WIDTH, _HEIGHT = 900, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, _WIDTH - 14, 26, _HEIGHT - 46
_SHAPES = {
    "dense": "M{x:.1f},{y:.1f}m-4.5,0a4.5,4.5 0 1 0 9,0a4.5,4.5 0 1 0 -9,0",
    "csr": "M{x:.1f},{y:.1f}m-4,-4h8v8h-8z",
    "smaller": "M{x:.1f},{y:.1f}m0,-6l5.5,9.5h-11z",
}

_MARKUP = r"""
{% if latencies %}
<section aria-labelledby="latency-title">
  <h2 id="latency-title">What it buys: measured latency</h2>
  {% for family in latencies %}
  <h3>{{ family.told.title }}</h3>
  {% for chart in family.charts %}
  <figure>
    <div class="chart"><svg viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ family.metric }} against milliseconds at batch {{ chart.batch }}; the table below has the numbers">
      <text x="4" y="12">{{ family.metric }}</text>
      {% for at, words in chart.y_ticks %}<line class="grid-line" x1="{{ left }}" x2="{{ right }}" y1="{{ at }}" y2="{{ at }}"/><text x="{{ left - 8 }}" y="{{ at + 4 }}" text-anchor="end">{{ words }}</text>{% endfor %}
      <line class="axis" x1="{{ left }}" x2="{{ right }}" y1="{{ bottom }}" y2="{{ bottom }}"/>
      {% for at, words in chart.x_ticks %}<line class="axis" x1="{{ at }}" x2="{{ at }}" y1="{{ bottom }}" y2="{{ bottom + 4 }}"/><text x="{{ at }}" y="{{ bottom + 18 }}" text-anchor="middle">{{ words }}</text>{% endfor %}
      <text x="{{ (left + right) / 2 }}" y="{{ height - 6 }}" text-anchor="middle">milliseconds at batch {{ chart.batch }} (log scale)</text>
      {% for mark in chart.marks %}<line x1="{{ mark.low }}" x2="{{ mark.high }}" y1="{{ mark.y }}" y2="{{ mark.y }}" stroke="{{ mark.paint }}" opacity="0.5"/><path class="mark" d="{{ mark.path }}" fill="{{ mark.paint }}" stroke="var(--paper)"><title>{{ mark.words }}</title></path>{% endfor %}
      {% for mark in chart.marks %}{% if mark.best %}<text class="name" x="{{ mark.x + (9 if mark.x < 620 else -9) }}" y="{{ mark.y - 6 }}" text-anchor="{{ 'start' if mark.x < 620 else 'end' }}">{{ mark.name }}</text>{% endif %}{% endfor %}
    </svg></div>
    <figcaption>{{ family.metric }} against the median time of a forward pass of {{ chart.batch }} example{{ "s" if chart.batch != 1 }}: circles the model as it is, squares its CSR file, triangles the model without its removed heads and neurons. Bars: quartiles of the repeats. Named are those that none beats in both.</figcaption>
  </figure>
  {% endfor %}
  <div class="scroll" role="group" tabindex="0" aria-label="Latency, {{ family.told.title }}">
  <table>
    <thead><tr><th scope="col">Method</th><th scope="col">Sparsity</th><th scope="col">Form</th><th scope="col">{{ family.metric }}</th>{% for batch in family.told.batches %}<th scope="col">ms, batch {{ batch }} (quartiles)</th><th scope="col">dense / it</th>{% endfor %}</tr></thead>
    <tbody>
    {% for row in family.rows %}
      <tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <p class="note">{{ family.told.measured | join("; ") }}. Forms of one run were timed in turns; <em>dense / it</em> is the ratio within that run, and of a small dense model against the dense row. The time of several runs is the median of theirs, their quartiles the widest.</p>
  {% endfor %}
</section>
{% endif %}
"""


@dataclass(frozen=True)
class Mark:
    """A point of a chart, in its units."""

    x: float
    y: float
    low: float
    high: float
    path: str
    paint: str
    name: str
    words: str
    best: bool


@dataclass(frozen=True)
class Chart:
    """One batch size."""

    batch: int
    marks: list[Mark]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def _context(content: PageContent) -> dict[str, Any]:
    families = []
    for told in list_latencies(content.groups):
        charts = [_draw(told, batch, content) for batch in told.batches]
        families.append(
            {
                "told": told,
                "metric": describe_metric(told.metric),
                "charts": [chart for chart in charts if chart.marks],
                "rows": [list_cells(told, point) for point in told.points],
            }
        )
    sizes = {"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "bottom": _BOTTOM}
    return {"latencies": families, **sizes}


def _draw(told: Latencies, batch: int, content: PageContent) -> Chart:
    points = [point for point in told.points if batch in point.times]
    if not points:
        return Chart(batch, [], [], [])
    scale = 100 if is_percentage(told.metric) else 1
    ends = [s for p in points for s in (p.times[batch].low, p.times[batch].high)]
    x_of, x_ticks = _log_axis(1e3 * min(ends), 1e3 * max(ends))
    values = [scale * point.mean for point in points]
    pad = 0.08 * (max(values) - min(values)) or 1
    low, high = min(values) - pad, max(values) + pad
    step = _nice((high - low) / 4)

    def y_of(value: float) -> float:
        return round(_BOTTOM - (value - low) / (high - low) * (_BOTTOM - _TOP), 1)

    first = math.ceil(low / step)
    y_ticks = [(y_of(i * step), f"{i * step:.6g}") for i in range(first, int(high / step) + 1)]
    marks = []
    for point in points:
        time = point.times[batch]
        x, y = x_of(1e3 * time.median), y_of(scale * point.mean)
        style = content.styles.get(point.style)
        paint = "var(--ink)" if point.dense or style is None else f"var(--m{style.colour})"
        at = "" if point.dense else f" {format_sparsity(point.sparsity)}"
        name = f"{point.method}{at}" + ("" if point.form == "dense" else f", {point.form}")
        value = format_value(point.mean, told.metric)
        marks.append(
            Mark(
                x, y, x_of(1e3 * time.low), x_of(1e3 * time.high),
                _SHAPES[point.form].format(x=x, y=y), paint, name,
                f"{name}: {value}, {milliseconds(time.median)} ms", _unbeaten(point, points, batch, told),
            )
        )  # fmt: skip
    return Chart(batch, marks, x_ticks, y_ticks)


def _unbeaten(point: Point, points: list[Point], batch: int, told: Latencies) -> bool:
    """Whether no other is better in one of metric and time, and as good in the other."""
    sign = 1 if told.higher_is_better else -1
    here = (point.times[batch].median, -sign * point.mean)
    others = [(p.times[batch].median, -sign * p.mean) for p in points if p is not point]
    return not any(o[0] <= here[0] and o[1] <= here[1] and o != here for o in others)


def _log_axis(low: float, high: float) -> tuple[Any, list[tuple[float, str]]]:
    begin, end = math.log10(low) - 0.03, math.log10(high) + 0.03

    def place(value: float) -> float:
        share = (math.log10(value) - begin) / (end - begin)
        return round(_LEFT + 12 + share * (_RIGHT - _LEFT - 24), 1)

    steps = (1, 2, 5) if end - begin > 0.5 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    powers = range(math.floor(begin), math.ceil(end) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return place, [(place(t), f"{t:g}") for t in ticks if begin <= math.log10(t) <= end]


def _nice(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)


SECTION = Section(_MARKUP, context=_context)
