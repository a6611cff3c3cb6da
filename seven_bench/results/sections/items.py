"""Which examples pruning lost: every run beside the dense run of its seed, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seven_bench.results.groups import Group
from seven_bench.results.item_rows import ItemRow, ItemTable
from seven_bench.results.items import ClassLoss
from seven_bench.results.sections.numbers import shorten
from seven_bench.results.sections.section import PageContent, Section, all_methods

SHOWN = 12  # classes of a level, those that fell furthest

_MARKUP = r"""
{% if content.items %}
<section class="scripted" aria-labelledby="items-title">
  <div class="head"><h2 id="items-title">Which examples were lost</h2><div class="choices">{{ choice("items-sparsity", "Sparsity") }}{{ choice("items-shown", "By class") }}</div></div>
  <div class="scroll" role="group" tabindex="0" aria-labelledby="items-title"><table id="items"></table></div>
  <p class="note" id="items-caption"></p>
  <div class="scroll" role="group" tabindex="0" aria-label="By class"><table id="classes" class="grid"></table></div>
  <p class="note" id="classes-caption"></p>
</section>
{% endif %}
"""

_SCRIPT = r"""
const tellP = (p) => (p < 0.001 ? "< 0.001" : p.toFixed(3));
const orDash = (value, tellIt) => (value === null ? DASH : tellIt(value));
const points = (share) => `${share < 0 ? "\u2212" : share > 0 ? "+" : ""}${(100 * Math.abs(share)).toFixed(1)}`;
const SHOWN_BY_CLASS = {
  agreement: ["agreement with dense", ([, , , , agreement]) => agreement, (value) => (100 * value).toFixed(0), (value) => 1 - value],
  change: ["change in accuracy, points", ([items, , lost, won]) => (won - lost) / items, points, (value) => -value],
  lost: ["lost, of those right in dense", ([, right, lost]) => (right ? lost / right : 0), (value) => (100 * value).toFixed(0), (value) => value],
};

function drawItems() {
  if (!$("items")) return;
  const level = group.items?.levels[$("items-sparsity").value];
  if (!level) {
    for (const id of ["items", "items-caption", "classes", "classes-caption"]) $(id).replaceChildren();
    $("items-caption").textContent = "No run here keeps predictions that pair with those of a dense run.";
    return;
  }
  const classes = level.labels.length > 0;
  const draw = forestOf(level.rows.map((row) => row.slice(2, 5)), 0, true);
  const body = level.rows.map(([index, seeds, mean, low, high, lost, won, p, agreement, ece, brier]) => {
    const method = group.methods[index];
    const [least, most] = [Math.min(...p), Math.max(...p)];
    return make("tr", {}, rowHead(method), make("td", {}, points(mean)), make("td", { class: "left" }, draw(mean, low, high, colour(method))),
      make("td", {}, `${points(low)} to ${points(high)}`), make("td", {}, lost.toFixed(1)), make("td", {}, won.toFixed(1)),
      make("td", { title: p.map(tellP).join(", ") }, tellP(least) === tellP(most) ? tellP(least) : `${tellP(least)} to ${tellP(most)}`),
      make("td", {}, String(seeds)),
      classes ? [make("td", {}, orDash(agreement, (value) => (100 * value).toFixed(1))), make("td", {}, orDash(ece, (value) => (100 * value).toFixed(1))), make("td", {}, orDash(brier, (value) => value.toFixed(3)))] : []);
  });
  const { calibration, brier, skipped, counted } = group.items;
  const own = group.methods.find((method) => method.dense);
  if (classes && own) {
    body.unshift(make("tr", {}, rowHead(own), make("td", {}, DASH), make("td"), ...Array(5).fill(0).map(() => make("td", {}, DASH)), make("td", {}, "100.0"),
      make("td", {}, orDash(calibration, (value) => (100 * value).toFixed(1))), make("td", {}, orDash(brier, (value) => value.toFixed(3)))));
  }
  const heads = [["Method", null], ["Minus dense", null], ["worse \u2190 \u2192 better", "left forest-head"], ["95 % interval", null], ["Lost", null], ["Won", null], ["p, McNemar", null], ["Seeds", null],
    ...(classes ? [["Agree", null], ["ECE", null], ["Brier", null]] : [])];
  $("items").replaceChildren(make("thead", {}, make("tr", {}, heads.map(([words, name]) => make("th", { scope: "col", class: name }, words)))), make("tbody", {}, body));
  $("items-caption").textContent = "Every run beside the dense run of its seed and recipe, on the same examples. Minus dense: the difference in points, with an interval over seeds and examples both (with one seed, over examples alone). "
    + "Lost: right in the dense run and not in this one; won: the reverse; means over seeds. McNemar's exact p of each seed, from the least to the largest, not corrected for their number."
    + (classes ? " Agree: examples with the same prediction, right or wrong, in percent. ECE: expected calibration error in percent; Brier's score, from 0 to 2: less is better." : "")
    + (skipped ? ` ${skipped} run${skipped === 1 ? "" : "s"} left out: no dense run was scored on the same examples.` : "");
  drawClasses(level, counted);
}

function drawClasses(level, counted) {
  if (!level.labels.length) return ["classes", "classes-caption"].forEach((id) => $(id).replaceChildren());
  const [words, value, tellIt, harm] = SHOWN_BY_CLASS[$("items-shown").value];
  const rows = level.rows.map((row) => ({ method: group.methods[row[0]], seeds: row[1], classes: row[11] }));
  const worst = Math.max(1e-9, ...rows.flatMap((row) => row.classes.filter(Boolean).map((item) => harm(value(item)))));
  const body = rows.map(({ method, seeds, classes }) => make("tr", {}, rowHead(method), classes.map((item, at) => {
    if (!item) return make("td", {}, DASH);
    const [items, right, lost, won, agreement] = item;
    const each = (count) => Math.round((10 * count) / seeds) / 10;
    const title = `${method.name}, class ${level.labels[at]}: ${each(items)} examples, ${each(right)} right in dense, ${each(lost)} lost, ${each(won)} won, agreement ${(100 * agreement).toFixed(1)} %`;
    return shadeCell(tellIt(value(item)), 0.9 * Math.max(0, harm(value(item))) / worst, { title });
  })));
  $("classes").replaceChildren(make("thead", {}, make("tr", {}, make("td"), level.labels.map((label) => make("th", { scope: "col" }, `class ${label}`)))), make("tbody", {}, body));
  const some = level.labels.length < counted ? `The ${level.labels.length} of ${counted} classes that fell furthest` : "Classes";
  $("classes-caption").textContent = `${some}, the worst on the left by the mean over methods: ${words}${$("items-shown").value === "change" ? "" : ", in percent"}. The stronger the colour, the worse.`;
}

addSection({
  remembered: $("items") ? ["items-sparsity", "items-shown"] : [],
  choose() {
    if (!$("items")) return;
    const levels = Object.keys(group.items?.levels ?? {}).sort((a, b) => b - a);
    choose("items-sparsity", levels.map((level) => [level]));
    choose("items-shown", Object.entries(SHOWN_BY_CLASS).map(([name, [words]]) => [name, words]));
  },
  draw: drawItems,
});
if ($("items")) listen(["items-sparsity", "items-shown"], drawItems);
"""


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    tables = {table.place: table for table in content.items}
    for place, (told, group) in enumerate(zip(payload["groups"], content.groups, strict=True)):
        told["items"] = _describe(tables[place], group) if place in tables else None


def _describe(table: ItemTable, group: Group) -> dict[str, Any]:
    methods = all_methods(group)
    levels: dict[float, list[ItemRow]] = {}
    for row in table.rows:
        levels.setdefault(row.sparsity, []).append(row)
    return {
        "skipped": table.skipped,
        "calibration": _shorten(table.calibration),
        "brier": _shorten(table.brier),
        "counted": max(len(row.classes) for row in table.rows),
        "levels": {
            f"{sparsity:g}": _describe_level(rows, methods) for sparsity, rows in levels.items()
        },
    }


def _describe_level(rows: Sequence[ItemRow], methods: Sequence[str]) -> dict[str, Any]:
    labels = find_worst(rows)
    return {
        "labels": labels,
        "rows": [
            [
                *(methods.index(row.method), row.difference.seeds),
                *map(_shorten, (row.difference.mean, row.difference.low, row.difference.high)),
                *map(_shorten, (row.lost, row.won)),
                [shorten(p, 3) for p in row.p],
                *map(_shorten, (row.agreement, row.calibration, row.brier)),
                _describe_classes(row.classes, labels),
            ]
            for row in rows
        ],
    }


def find_worst(rows: Sequence[ItemRow], count: int = SHOWN) -> list[int]:
    """Labels of the classes that fell furthest, by the mean over the rows, the furthest first."""
    drops: dict[int, float] = {}
    for row in rows:
        for loss in row.classes:
            drops[loss.label] = drops.get(loss.label, 0.0) + loss.drop
    return sorted(drops, key=lambda label: (-drops[label], label))[:count]


def _describe_classes(
    classes: Sequence[ClassLoss], labels: Sequence[int]
) -> list[list[Any] | None]:
    found = {loss.label: loss for loss in classes}
    return [
        [loss.items, loss.right_before, loss.lost, loss.won, shorten(loss.agreement, 4)]
        if (loss := found.get(label)) is not None
        else None
        for label in labels
    ]


def _shorten(value: float | None) -> float | int | None:
    return None if value is None else shorten(value, 4)


SECTION = Section(_MARKUP, script=_SCRIPT, fill=_fill)
