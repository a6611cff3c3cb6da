"""What is kept in each layer of a run."""

from __future__ import annotations

import math
from typing import Any

from seven_bench.results.sections.section import PageContent, Section, all_runs

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_STEPS = len(_ALPHABET) ** 2 - 1

_MARKUP = r"""
<section class="scripted" aria-labelledby="layers-title">
  <div class="head"><h2 id="layers-title">Kept by layer</h2><div class="choices">{{ choice("layer-method", "Method") }}{{ choice("layer-sparsity", "Sparsity") }}{{ choice("layer-seed", "Seed") }}</div></div>
  <div class="scroll" role="group" tabindex="0" aria-labelledby="layers-title"><table id="layers" class="grid"></table></div>
  <p class="note" id="layers-caption"></p>
</section>
"""

_SCRIPT = r"""
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STEPS = ALPHABET.length ** 2 - 1;

function unpack(text) {
  const shares = [];
  for (let at = 0; at < text.length; at += 2) shares.push(((ALPHABET.indexOf(text[at]) * 64 + ALPHABET.indexOf(text[at + 1])) / STEPS) ** 2);
  return shares;
}

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
    && group.runs.sparsity[at] === Number($("layer-sparsity").value) && group.runs.named[at] === $("layer-seed").value);
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

function chooseLayer() {
  const runs = group.runs.layers.flatMap((packed, run) => (packed ? [run] : []));
  const names = distinct(runs.map((run) => group.runs.method[run])).sort((a, b) => a - b).map((index) => group.methods[index]);
  names.sort((a, b) => a.dense - b.dense);
  const method = choose("layer-method", names.map(({ name }) => [name]));
  const own = runs.filter((run) => group.methods[group.runs.method[run]].name === method);
  const sparsity = choose("layer-sparsity", distinct(own.map((run) => group.runs.sparsity[run])).sort((a, b) => b - a).map((s) => [s, tellSparsity(s)]));
  const named = own.filter((run) => String(group.runs.sparsity[run]) === sparsity).map((run) => group.runs.named[run]);
  choose("layer-seed", distinct(named).sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).map((name) => [name]));
}

addSection({ choose: chooseLayer, draw: drawLayers });
listen(["layer-method", "layer-sparsity", "layer-seed"], () => { chooseLayer(); drawLayers(); });
"""


def _fill(payload: dict[str, Any], content: PageContent) -> None:
    sets: dict[tuple[tuple[str, int], ...], int] = {}
    for told, group in zip(payload["groups"], content.groups, strict=True):
        told["runs"]["layers"] = [_pack(layers, sets) for layers in all_runs(group)["layers"]]
    payload["layers"] = [
        {"names": [name for name, _ in layers], "totals": [total for _, total in layers]}
        for layers in sets
    ]


def _pack(layers: Any, sets: dict[tuple[tuple[str, int], ...], int]) -> list[Any] | None:
    """Shares of weights kept, two characters a layer, with the number of their set of layers.

    The square root of the share is what is rounded, in 4095 steps: fine where layers are nearly
    empty, and zero for empty layers alone.
    """
    if not isinstance(layers, dict) or not layers:
        return None
    key = tuple((name, counts["total"]) for name, counts in layers.items())
    text = ""
    for counts in layers.values():
        share = counts["kept"] / max(counts["total"], 1)
        step = round(_STEPS * math.sqrt(share)) or int(counts["kept"] > 0)
        text += _ALPHABET[step // 64] + _ALPHABET[step % 64]
    return [sets.setdefault(key, len(sets)), text]


SECTION = Section(_MARKUP, script=_SCRIPT, fill=_fill)
