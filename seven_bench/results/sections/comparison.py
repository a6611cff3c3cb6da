"""Every method against a reference, paired by seed."""

from __future__ import annotations

from typing import Any

from seven_bench.results.groups import Group
from seven_bench.results.sections.numbers import shorten
from seven_bench.results.sections.section import PageContent, Section, all_methods
from seven_bench.results.statistics import ALPHA, compare, pair_by_seed, seeds_needed

_MARKUP = r"""
<section class="scripted" aria-labelledby="comparison-title">
  <div class="head"><h2 id="comparison-title">Against a reference</h2><div class="choices">{{ choice("reference", "Reference") }}{{ choice("level", "Sparsity") }}</div></div>
  <div class="scroll" role="group" tabindex="0" aria-labelledby="comparison-title"><table id="comparison"></table></div>
  <p class="note" id="comparison-caption"></p>
</section>
"""

_SCRIPT = r"""
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
  const draw = forestOf(rows.map((row) => row.slice(3, 6)), group.margin ?? 0, group.metric.higher);
  const body = rows.map(([index, , pairs, difference, low, high, effect, p, detectable, word]) => {
    const method = group.methods[index];
    const words = group.words[word];
    const tone = /^better/.test(words) ? "good" : /^worse/.test(words) ? "bad" : null;
    return make("tr", {}, rowHead(method),
      make("td", {}, tellSigned(difference, metric)), make("td", { class: "left" }, draw(difference, low, high, colour(method))),
      make("td", { class: `left verdict ${tone ?? ""}` }, words.replace(/(\d+) of (\d+)/, "$1\u00a0of\u00a0$2")),
      make("td", {}, low === null ? DASH : `${tellSigned(low, metric)} to ${tellSigned(high, metric)}`),
      make("td", {}, String(pairs)),
      make("td", {}, effect === null ? DASH : effect.toFixed(2).replace("-", "\u2212")),
      make("td", {}, p === null ? DASH : p < 0.001 ? "< 0.001" : p.toFixed(3)),
      make("td", {}, detectable === null ? DASH : tell(detectable, metric)));
  });
  const heads = [["Method", null], ["Difference", null], ["worse \u2190 \u2192 better", "left forest-head"], ["In words", "left"], ["95 % interval", null], ["Seeds", null], ["d", null], ["p, Holm", null], ["Could show", null]];
  $("comparison").replaceChildren(make("thead", {}, make("tr", {}, heads.map(([words, name]) => make("th", { scope: "col", class: name }, words)))), make("tbody", {}, body));
  const margin = group.margin === null ? "No margin of equality was stated." : `The shaded margin of equality is \u00b1 ${tell(group.margin, metric)}.`;
  caption.textContent = `${captionOf(metric)}${isPercent(metric) ? ", in points" : ""}: method minus ${reference}, paired by seed, with the paired t-interval and the effect size d (mean over standard deviation of the differences). One family of ${tests} test${tests === 1 ? "" : "s"}, every method at every sparsity compared, corrected by Holm; it takes ${needed} shared seeds to reject anything. Could show: the true difference that as many pairs of this spread would have shown four times in five. ${margin}`;
}

function chooseLevel() {
  const rows = group.against[$("reference").value] ?? [];
  const levels = distinct(rows.map(([, at]) => group.sparsities[at])).sort((a, b) => b - a);
  choose("level", levels.map((level) => [level, tellSparsity(level)]));
}

addSection({
  remembered: ["reference", "level"],
  choose() {
    const references = Object.keys(group.against);
    choose("reference", references.map((name) => [name]), [wishes.get("reference"), data.reference].find((name) => references.includes(name)));
    chooseLevel();
  },
  draw: drawComparison,
});
listen(["reference"], () => { chooseLevel(); drawComparison(); });
listen(["level"], drawComparison);
"""


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    payload |= {"reference": content.reference, "alpha": ALPHA}
    for told, group in zip(payload["groups"], content.groups, strict=True):
        told |= {**_compare_all(group, content), "margin": content.margin}


def _compare_all(group: Group, content: PageContent) -> dict[str, Any]:
    """Every method against every possible reference, each reference a family of its own."""
    words: dict[str, int] = {}
    against, families = {}, {}
    methods = all_methods(group)
    for reference in methods:
        pairings = pair_by_seed(group, reference, content.at, content.methods)
        if not pairings:
            continue
        family = compare(
            pairings, higher_is_better=group.metric.higher_is_better, margin=content.margin
        )
        families[reference] = [len(pairings), seeds_needed(len(pairings))]
        against[reference] = [
            [
                *(methods.index(c.method), group.sparsities.index(c.sparsity), c.pairs),
                *(
                    shorten(value, 4)
                    for value in (c.difference, c.low, c.high, c.effect, c.p, c.detectable)
                ),
                words.setdefault(c.words, len(words)),
            ]
            for c in family
        ]
    return {"against": against, "families": families, "words": list(words)}


SECTION = Section(_MARKUP, script=_SCRIPT, fill=_fill)
