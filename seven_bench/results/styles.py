"""A colour, a marker and a dash for every method, the same in every figure and on the page."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from seven_bench.results.groups import SEPARATOR

#: Told apart with every common colour vision, on white; the page has a lighter set for dark mode.
LIGHT = ("#0072b2", "#d55e00", "#00846b", "#b8478f", "#9a7500", "#3a8fc4", "#4b3fa7", "#8c2f45")
DARK = ("#56b4e9", "#ff8f4a", "#2fc79d", "#ee9ccb", "#dcb73f", "#a6dcff", "#a79bff", "#e8788f")
MARKERS = ("circle", "square", "triangle", "diamond")
DASHES = ("solid", "dashed", "dotted")

#: Methods of the suite, in the order of their slots: the same colour in every report. Others take
#: the slot of their name's checksum, or the next free one.
_SLOTS = (
    *("seven_pre", "magnitude", "snip", "grasp", "random", "gmp", "lth", "seven_dyn"),
    *("force", "movement", "taylor", "platon", "wanda", "iter_snip", "fisher", "lamp"),
    *("rigl", "soft_movement", "synflow_linearized", "platon_seven", "random_er", "lrr"),
    *("seven_dyn_released", "magnitude_uniform", "one_shot_after", "soft_movement_projected"),
    *("taylor_dyn", "seven_pre_signed", "seven_dyn_signed", "small_width"),
)


@dataclass(frozen=True)
class Style:
    """`colour` indexes LIGHT and DARK; marker and dash are words of MARKERS and DASHES."""

    colour: int
    marker: str
    dash: str


def assign_styles(methods: Iterable[str]) -> dict[str, Style]:
    """Give every method its style. Variants of a pruner share its colour and differ in dash."""
    methods = sorted(set(methods))
    slots = {name: index for index, name in enumerate(_SLOTS)}
    taken = {slots[_base(method)] for method in methods if _base(method) in slots}
    capacity = len(LIGHT) * len(MARKERS)
    styles, variants = {}, dict.fromkeys(map(_base, methods), 0)
    for method in methods:
        base = _base(method)
        if base not in slots:
            slot = zlib.crc32(base.encode()) % capacity
            while slot in taken and len(taken) < capacity:
                slot = (slot + 1) % capacity
            slots[base] = slot
            taken.add(slot)
        slot = slots[base]
        dash = DASHES[variants[base] % len(DASHES)]
        variants[base] += 1
        styles[method] = Style(slot % len(LIGHT), MARKERS[slot // len(LIGHT) % len(MARKERS)], dash)
    return styles


def _base(method: str) -> str:
    return method.split(SEPARATOR)[0]
