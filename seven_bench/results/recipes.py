"""Recipes: all that decides a result and is no column of a table, as a record's `recipe` holds it.

A recipe maps dotted keys of settings (`trainer.lr`) to plain values. Methods are held against each
other under one recipe alone: optimizer, epochs or the number of training examples move a result
more than most methods do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

#: Columns of collected records that hold a recipe begin so.
PREFIX = "recipe."
#: Last parts of keys that say on what a run was computed: they decide the last bits of a result and
#: part no runs. Where they differ it is told.
MACHINE = frozenset(("threads", "accelerator", "devices", "deterministic"))


def identify_recipe(recipe: Any) -> str:
    """Eight hexadecimal digits of a recipe, its machine left out; empty where there is none."""
    if not isinstance(recipe, Mapping) or not recipe:
        return ""
    plain = {key: _plain(value) for key, value in recipe.items() if not is_machine(key)}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_machine(key: str) -> bool:
    """Whether a key of a recipe says on what a run was computed."""
    return key.rpartition(".")[2] in MACHINE


def _plain(value: Any) -> Any:
    """3 and 3.0 are one value, and so are a list and a tuple."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def recipe_columns(records: pd.DataFrame, machine: bool = False) -> list[str]:
    """The columns of collected records that hold recipes: the machine's keys, or all others."""
    return [
        name for name in records.columns if name.startswith(PREFIX) and is_machine(name) == machine
    ]


def tell_value(value: Any) -> str:
    """A value of a recipe as it is typed; `none` where there is none."""
    if isinstance(value, list | tuple):
        return ",".join(map(tell_value, value)) or "none"
    if value is None or (isinstance(value, float) and value != value):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def find_differences(records: pd.DataFrame, machine: bool = False) -> dict[str, list[str]]:
    """Keys in which the recipes of some runs differ, with the values that occur, sorted."""
    differing = {}
    for name in recipe_columns(records, machine):
        values = sorted(set(records[name].map(tell_value)))
        if len(values) > 1:
            differing[name.removeprefix(PREFIX)] = values
    return differing


def tell_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Sequence[str]:
    """What differs between two recipes, in words: `trainer.lr 0.001 against 0.0005`."""
    keys = sorted(key for key in {*ours, *theirs} if not is_machine(key))
    told = ((key, tell_value(ours.get(key)), tell_value(theirs.get(key))) for key in keys)
    return [f"{key} {one} against {other}" for key, one, other in told if one != other]
