"""A method of the suite, or a score of one's own, for a model that is no run's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from seven_bench.errors import ConfigError
from seven_bench.pruning import OneShot, Params, Score, prunable_parameters
from seven_bench.pruning.prunable import (
    chosen_parameters,
    family_of,
    has_option,
    layer_weights,
)
from seven_bench.pruning.pruner import Method
from seven_bench.pruning.structure import structured_parameters
from seven_bench.pruning.units import Structure
from seven_bench.running.scope import units_of
from seven_bench.running.scoring import method_of
from seven_bench.settings.building import build_score
from seven_bench.settings.conf import choice, names_of
from seven_bench.settings.model import Pruner
from seven_bench.settings.node import read
from seven_bench.settings.validity import composition

#: Whether a weight may be removed, by its name and its layer.
Wanted = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Composed:
    """A method with the settings that its file, and the caller, give it."""

    settings: Pruner
    method: Method


def compose(
    model: nn.Module,
    method: str | Score,
    timing: str,
    sparsity: float,
    options: Mapping[str, Any],
    *,
    pattern: str | None,
    distribution: str | None,
) -> Composed:
    """A method as its file has it, but for `options`.

    Args:
        model: what it is to prune.
        method: a choice of `pruner=`, or a score.
        timing: "before" or "during": what the caller does.
        options: keys of the file with other values (None: the file's); of `score` and `schedule`
            arguments alone may be given.

    Raises: ConfigError in one line when they do not go together.
    """
    if not 0 <= sparsity < 1:
        raise ConfigError(f"sparsity={sparsity!r}: allowed is a number from 0, below 1")
    plain = _of_file(method) if isinstance(method, str) else _of_score(method, timing)
    for key, value in options.items():
        if value is None:
            continue
        below = isinstance(value, Mapping) and isinstance(plain.get(key), Mapping)
        plain[key] = {**plain[key], **value} if below else value
    settings = read(Pruner, plain, "pruner")
    if settings.timing != timing:
        raise ConfigError(f"method={settings.name}: it prunes {settings.timing} training; "
                          f"{_others(timing)}")  # fmt: skip
    pattern, distribution = composition(settings, pattern, distribution, sparsity)
    score = build_score(settings) if isinstance(method, str) else method
    made = method_of(settings, score, sparsity, pattern, distribution)
    return Composed(settings, replace(made, pattern=units_of(pattern, model)))


def _of_file(name: str) -> dict[str, Any]:
    if name not in (known := names_of("pruner")):
        raise ConfigError(f"method={name!r}: allowed are {', '.join(known)}, or a score")
    return dict(choice(f"pruner/{name}"))


def _of_score(score: Score, timing: str) -> dict[str, Any]:
    """What the file of a score of one's own would say."""
    kind = type(score)
    return {
        "name": kind.__name__,
        "timing": timing,
        "needs": sorted(score.needs),
        "compared": score.compared,
        "score": {"_target_": f"{kind.__module__}.{kind.__qualname__}"},
        "schedule": {"_target_": f"seven_bench.pruning.{OneShot.__name__}"},
    }


def _others(timing: str) -> str:
    names = [name for name in names_of("pruner") if choice(f"pruner/{name}")["timing"] == timing]
    return f"those that prune {timing} it are {', '.join(names)}"


def prunable_of(
    model: nn.Module, composed: Composed, prunable: str | Wanted | None, include: Iterable[str]
) -> Params:
    """What may be removed of any module.

    Args:
        composed: a method, which may add an optional group of a family; where its units lie across
            tensors, it is the weights of these.
        prunable: a regular expression that is found in the names of weights, or a function of a
            weight's name and its layer; None: the rule of the model's family.
        include: optional groups of a family, "pooler" or "patch_embedding".

    Raises: ConfigError naming what there is.
    """
    units = composed.method.pattern
    try:
        if isinstance(units, Structure):
            if prunable is not None or include:
                raise ValueError(f"pattern={units.pattern} says itself what may be removed")
            return structured_parameters(model, units)
        if callable(prunable):
            return chosen_parameters(model, prunable)
        if not _has_family(model):
            if prunable is None:
                raise ValueError(
                    f"{type(model).__name__} is of no known family: prunable=REGEX, or a function "
                    f"of name and layer, says which of its weights may be removed; they are "
                    f"{', '.join(layer_weights(model)) or 'none'}"
                )
            searched = re.compile(prunable)
            return chosen_parameters(model, lambda name, _: searched.search(name) is not None)
        own = [group for group in composed.settings.prunable if has_option(model, group)]
        groups = [*include, *own]
        return prunable_parameters(model, groups, prunable)
    except (ValueError, re.error) as error:
        raise ConfigError(str(error)) from error


def _has_family(model: nn.Module) -> bool:
    try:
        family_of(model)
    except ValueError:
        return False
    return True
