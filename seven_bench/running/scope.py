"""What a run may remove."""

from __future__ import annotations

import logging

from torch import nn

from seven_bench.errors import ConfigError
from seven_bench.pruning import Params, prunable_parameters
from seven_bench.pruning.patterns import PATTERNS
from seven_bench.pruning.prunable import has_option
from seven_bench.pruning.structure import structure_of, structured_parameters
from seven_bench.pruning.units import Structure
from seven_bench.settings.model import Settings

log = logging.getLogger(__name__)


def prunable(settings: Settings, model: nn.Module) -> Params:
    """What the run may remove; a method's own additions count where the model has them. Where units
    lie across tensors it is the weights of these, so `sparsity` is a fraction of heads or neurons.
    """
    units = pattern_of(settings, model)
    if isinstance(units, Structure):
        return structured_parameters(model, units)
    include, pattern = settings.prunable.include, settings.prunable.pattern
    unpruned = settings.pruner.timing == "none"  # nothing is left out where nothing is removed
    params = prunable_parameters(model, include, pattern, partly=unpruned)
    for option in settings.pruner.prunable:
        if has_option(model, option):
            params = prunable_parameters(model, [*include, option], pattern)
        else:
            log.info("%s has no %s to prune", settings.model.name, option)
    return params


def pattern_of(settings: Settings, model: nn.Module) -> str | Structure:
    """What a run removes: a pattern, or where its units lie across tensors those of the model.

    Raises: ConfigError when the model has no such units.
    """
    return units_of(settings.pattern or "unstructured", model)


def units_of(pattern: str, model: nn.Module) -> str | Structure:
    """A pattern, or its units in a model where they lie across tensors; raises as `pattern_of`."""
    if not PATTERNS[pattern].coupled:
        return pattern
    try:
        return structure_of(model, pattern)
    except ValueError as error:
        raise ConfigError(str(error)) from error
