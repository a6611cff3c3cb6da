"""A finished run's model, in a program of one's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from seven_bench.pruning import MaskSet
from seven_bench.settings.checks import stored
from seven_bench.settings.model import Settings
from seven_bench.store.finished import open_run
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.start import finished_model


@dataclass(frozen=True)
class Run:
    """A finished run: the plain timm or transformers model with its final weights, on the CPU and
    in evaluation mode; its masks; its record; the settings that it was made with.
    """

    model: nn.Module
    masks: MaskSet
    record: dict[str, Any]
    settings: Settings


def load_run(folder: str | os.PathLike[str], *, unsealed: bool = False) -> Run:
    """The run in a folder. Nothing in it is trusted: its seal is checked over every file, its
    settings as strictly as what is typed, and it can name no class but those that the installed
    configuration names.

    Args:
        folder: of one run (`outputs/runs/.../seed0-...`).
        unsealed: also a run whose record has no seal.

    Raises: RunError (a ValueError) when the run is not complete, damaged or unsealed; ConfigError
        (also one) when its settings are not allowed.
    """
    run = open_run(Path(folder), weights=True, unsealed=unsealed)
    settings, state = stored(run.folder), random_state()
    try:
        model = finished_model(settings, run)  # its first weights are drawn, and overwritten
    finally:
        restore_random_state(state)
    return Run(model.eval(), MaskSet(run.masks()), run.record, settings)
