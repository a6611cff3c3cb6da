"""The space that trials choose settings from: a file of `conf/tune/`, and what a method adds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.building import defaults
from seven_bench.settings.model import TUNABLE, Settings
from seven_bench.settings.node import Target, shown

Value = bool | int | float | str | None
FORMS = "a list of values, {factor: [low, high]}, or {low: , high: } with log: true or without"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, times `unit`, on a log scale where `log`."""

    low: float
    high: float
    log: bool = False
    unit: float = 1.0

    def value(self, drawn: float) -> float:
        """What a run is given: three digits, so that it can be typed."""
        return float(f"{drawn * self.unit:.3g}")


Knob = Choice | Range
Space = dict[str, Knob]


def read_space(plain: Mapping[str, Any], settings: Settings) -> tuple[Space, dict[str, Value]]:
    """The space for a run: that of `plain`, by dotted key, and its method's own; and where it
    stands now, as far as that is in the space.

    Raises: ConfigError on a key that cannot be tuned, or is no number where one is multiplied.
    """
    own = {f"pruner.{key}": value for key, value in settings.pruner.tune.items()}
    space: Space = {}
    present: dict[str, Value] = {}
    for key, form in {**plain, **own}.items():
        if not re.fullmatch(TUNABLE, key):
            raise ConfigError(
                f"tune: {key}: allowed are keys of trainer., pruner.score. and pruner.schedule."
            )
        now = _at(settings, key)
        space[key] = knob = _knob(key, form, now)
        if isinstance(knob, Choice) and now in knob.values:
            present[key] = now
        elif isinstance(knob, Range) and knob.low <= (now or 0) / knob.unit <= knob.high:
            present[key] = now / knob.unit
    return space, present


def digest(name: str, plain: Mapping[str, Any]) -> str:
    """A space's name, and a hash of what is in it."""
    text = json.dumps(plain, sort_keys=True)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _at(settings: Settings, key: str) -> Any:
    *path, name = key.split(".")
    if path == ["trainer"]:
        known = settings.trainer.plain()
    else:
        target: Target | None = getattr(settings.pruner, path[-1])
        known = {} if target is None else {**defaults(target), **target.arguments}
    if name not in known:
        raise ConfigError(f"tune: {key}: pruner={settings.pruner.name} has no such key")
    return known[name]


def _knob(key: str, form: Any, now: Any) -> Knob:
    numbers = (int, float)
    if isinstance(form, list | tuple) and form:
        return Choice(tuple(form))
    if isinstance(form, Mapping) and set(form) == {"factor"}:
        low, high = form["factor"]
        if not isinstance(now, numbers) or isinstance(now, bool) or not now > 0:
            raise ConfigError(f"tune: {key}: a factor needs a number, which {shown(now)} is not")
        return Range(low, high, log=True, unit=float(now))
    if isinstance(form, Mapping) and {"low", "high"} <= set(form) <= {"low", "high", "log"}:
        return Range(form["low"], form["high"], bool(form.get("log", False)))
    raise ConfigError(f"tune: {key}={shown(form)}: allowed are {FORMS}")
