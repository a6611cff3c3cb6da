"""Masks that a run is given, held against its model."""

from __future__ import annotations

import difflib

import torch

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Params, kept_count
from seven_bench.pruning.masks import prune
from seven_bench.running.scope import pattern_of, prunable
from seven_bench.settings.given_masks import given_masks, wrong_count
from seven_bench.settings.model import Settings
from seven_bench.store.given_masks import GivenMasks
from seven_bench.training.small import run_model


def check_given(settings: Settings) -> None:
    """Before any work: masks are of this model's prunable weights, all of them and no others, and
    what the sparsity and the pattern say is what they are.

    Raises: ConfigError in one line that names file and tensor, and what was expected.
    """
    given = given_masks(settings.pruner)
    if given is None:
        return
    with torch.device("meta"):
        model = run_model(settings)
    masks = masks_of(settings, given, prunable(settings, model))
    due = kept_count(masks.total, settings.sparsity)
    if settings.pattern == "unstructured":
        if masks.kept != due:
            raise wrong_count(settings, given, masks.kept, masks.total, due)
        return
    assert settings.pattern and settings.distribution
    scores = {name: mask.float() for name, mask in masks.items()}
    every, form = MaskSet.ones(masks), pattern_of(settings, model)
    made = prune(scores, every, settings.sparsity, settings.distribution, form)
    if made.hash() != masks.hash():
        odd = next(name for name, mask in masks.items() if not torch.equal(mask, made[name]))
        raise ConfigError(
            f"pattern={settings.pattern}: {given.file}: the mask of {odd} is none of this pattern "
            f"at sparsity={settings.sparsity:g}: allowed is the pattern that it was made with"
        )


def masks_of(settings: Settings, given: GivenMasks, params: Params) -> MaskSet:
    """The masks of these weights, in their order, on the CPU.

    Raises: ConfigError on a name, a shape or a missing one, naming file and tensor.
    """
    model, shapes = f"model={settings.model.name}", given.masks.shapes
    where = f"pruner.masks: {given.file}"
    found = {name: _name_in(given, name) for name in params}
    if not given.weights and (odd := sorted(shapes.keys() - found.values())):
        near = difflib.get_close_matches(odd[0], params, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{where}: {odd[0]} is no prunable weight of {model}: allowed are its {len(params)}, "
            f"which prunable.include and prunable.pattern say{hint}"
        )
    for name, parameter in params.items():
        shape, wanted = shapes.get(found[name]), tuple(parameter.shape)
        if shape is None:
            raise ConfigError(
                f"{where}: {name} is missing: all {len(params)} prunable weights of {model} are "
                f"wanted, this one of shape {wanted}"
            )
        if shape != wanted:
            told = f"{found[name]} has shape {shape}: that of {model} is {wanted}"
            raise ConfigError(f"{where}: {told}")
    return MaskSet((name, torch.from_numpy(given.mask(found[name]))) for name in params)


def _name_in(given: GivenMasks, name: str) -> str:
    """A weight's name in the file: a model without its head has none of the first part of it."""
    without = name.partition(".")[2]
    return without if given.weights and name not in given.masks.shapes and without else name
