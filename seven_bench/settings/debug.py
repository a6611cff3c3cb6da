"""`debug=true`: a run end to end in seconds, to see that it goes through. Its figures mean nothing:
it has an identity, a folder and a mark of its own, and no table has it.
"""

from __future__ import annotations

from typing import Any

from seven_bench.settings.model import Pruner, Settings, Trainer
from seven_bench.settings.node import Target

EXAMPLES = 20  # of each split that is read
BATCH = 4
CALIBRATION = 4  # batches
LONGEST, STRIDE = 32, 8  # tokens
IMAGE = 64  # pixels of a side, of models that are built at any size
TIMES = {
    "start": "1it", "steps": "3it", "warmup": "0it", "tail": "1it", "window": "1it", "every": 1,
}  # fmt: skip
SMALL_DATA = {"train_examples": None, "workers": 0}


def with_small_images(composed: Any) -> Any:
    """A composed config whose model of images, where it can be had at any size, has a small one."""
    from omegaconf import OmegaConf

    build = OmegaConf.select(composed, "model.build")
    size = OmegaConf.select(composed, "model.image.size", throw_on_resolution_failure=False)
    if build is None or "img_size" not in build or not isinstance(size, int) or size <= IMAGE:
        return composed
    composed = composed.copy()
    OmegaConf.update(composed, "model.image.size", IMAGE, force_add=True)
    return composed


def shrunk(settings: Settings) -> Settings:
    """Settings with one epoch of few, small batches, and of a method's schedule its course."""
    task, trained = settings.task, settings.start.train
    return settings.model_copy(
        update={
            "task": task.model_copy(update={"train_examples": None, "data": _data(task.data)}),
            "trainer": _trainer(settings.trainer),
            "start": settings.start.model_copy(
                update={"train": None if trained is None else _trainer(trained)}
            ),
            "pruner": _pruner(settings.pruner, settings.sparsity),
        }
    )


def _trainer(trainer: Trainer) -> Trainer:
    few = {"max_epochs": min(1, trainer.max_epochs), "max_steps": None, "lr_replay": None}
    batch = {"batch_size": min(BATCH, trainer.batch_size), "accumulate": 1}
    return trainer.model_copy(update={**few, **batch})


def _data(data: Target) -> Target:
    arguments = dict(data.arguments)
    for key, most in (("max_length", LONGEST), ("stride", STRIDE)):
        if isinstance(arguments.get(key), int):
            arguments[key] = min(arguments[key], most)
    arguments |= {key: value for key, value in SMALL_DATA.items() if key in arguments}
    return data.model_copy(update={"arguments": arguments})


def _pruner(pruner: Pruner, sparsity: float) -> Pruner:
    changes: dict[str, Any] = {}
    if pruner.schedule is not None:
        arguments = {key: _time(key, value) for key, value in pruner.schedule.arguments.items()}
        changes["schedule"] = pruner.schedule.model_copy(update={"arguments": arguments})
    if (calibration := pruner.calibration) is not None:
        size = min(BATCH, calibration.batch_size)
        few = {"batch_size": size, "examples": CALIBRATION * size}
        changes["calibration"] = calibration.model_copy(update=few)
    if (rounds := pruner.rounds) is not None:
        update: dict[str, Any] = {}
        if rounds.rewind not in (None, "start"):
            update["rewind"] = "1it"
        if rounds.fraction is not None and sparsity:  # two rounds: a little more than half of it
            half = sparsity / 2 if rounds.of == "start" else 1 - (1 - sparsity) ** 0.5
            update["fraction"] = max(rounds.fraction, half + 1e-6)
        changes["rounds"] = rounds.model_copy(update=update)
    return pruner.model_copy(update=changes)


def _time(key: str, value: Any) -> Any:
    """A time of a schedule within few steps; what is none, or begins at once, stays."""
    return TIMES.get(key, value) if value not in (None, 0, 0.0, "0it", "0ep") else value
