"""How much the masks of two methods agree."""

from __future__ import annotations

from typing import Any

from seven_bench.results.sections.numbers import shorten
from seven_bench.results.sections.section import PageContent, Section
from seven_bench.results.statistics import summarise
from seven_bench.results.tables import format_sparsity

_MARKUP = r"""
<section class="scripted" aria-labelledby="overlap-title">
  <div class="head"><h2 id="overlap-title">Overlap of masks</h2><div class="choices">{{ choice("overlap-sparsity", "Sparsity") }}</div></div>
  <div class="scroll" role="group" tabindex="0" aria-labelledby="overlap-title"><table id="overlap" class="grid"></table></div>
  <p class="note" id="overlap-caption"></p>
</section>
"""

_SCRIPT = r"""
function drawOverlap() {
  const level = $("overlap-sparsity").value;
  const pairs = group.overlap[level] ?? [];
  const unread = group.unread ? ` ${group.unread} mask files were left unread; --mask-budget raises the limit.` : "";
  if (!pairs.length) {
    $("overlap").replaceChildren();
    $("overlap-caption").textContent = `No two masks of one seed and sparsity to compare.${unread}`;
    return;
  }
  const found = new Map(pairs.flatMap(([a, b, value, low, high, n]) => [[`${a}\n${b}`, { value, low, high, n }], [`${b}\n${a}`, { value, low, high, n }]]));
  const named = new Set(pairs.flatMap(([a, b]) => [a, b]));
  const methods = group.methods.filter(({ name }) => named.has(name));
  const rows = methods.map((row, at) => make("tr", {}, rowHead(row), methods.slice(0, -1).map((column, across) => {
    if (across >= at) return make("td");
    const pair = found.get(`${row.name}\n${column.name}`);
    return pair ? shadeCell(pair.value.toFixed(2), pair.value * 0.95, { title: `${row.name} and ${column.name}: ${pair.value.toFixed(3)}${pair.low === null ? "" : ` (95 % interval ${pair.low.toFixed(3)} to ${pair.high.toFixed(3)})`}, ${pair.n} seed${pair.n === 1 ? "" : "s"}` }) : make("td", {}, DASH);
  })));
  $("overlap").replaceChildren(make("thead", {}, make("tr", {}, make("td"), methods.slice(0, -1).map(({ name }) => make("th", { scope: "col" }, breakable(name))))), make("tbody", {}, rows.slice(1)));
  const density = 1 - Number(level);
  const seeds = [...new Set(pairs.map((pair) => pair.at(-1)))].sort((a, b) => a - b);
  $("overlap-caption").textContent = `Jaccard overlap of the kept weights, methods of the same seed: kept by both over kept by either, mean over ${seeds.join(" to ")} seed${seeds.at(-1) === 1 ? "" : "s"}. Two independent random masks of this sparsity have ${(density / (2 - density)).toFixed(2)}.${unread}`;
}

addSection({
  choose() {
    const levels = Object.keys(group.overlap).sort((a, b) => b - a);
    choose("overlap-sparsity", levels.map((level) => [level]));
  },
  draw: drawOverlap,
});
listen(["overlap-sparsity"], drawOverlap);
"""


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    for told, overlaps in zip(payload["groups"], content.overlaps, strict=True):
        told["unread"] = overlaps.skipped
        told["overlap"] = {
            format_sparsity(level): [
                [a, b, *(shorten(v, 4) for v in (told.mean, told.low, told.high)), len(values)]
                for (a, b), values in pairs.items()
                for told in (summarise(values),)
            ]
            for level, pairs in overlaps.values.items()
        }


SECTION = Section(_MARKUP, script=_SCRIPT, fill=_fill)
