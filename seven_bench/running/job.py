"""What one run prunes and trains, in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seven_bench.data.task_data import TaskData
from seven_bench.pruning import MaskSet, Params
from seven_bench.settings.model import Settings
from seven_bench.training.context import Context
from seven_bench.training.module import TaskModule


@dataclass(frozen=True)
class Below:
    """The round below: its final effective weights, its masks, and, when the weights are rewound
    to a step, those of that step.
    """

    state: dict[str, Tensor]
    masks: MaskSet
    rewound: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Job:
    """A run at work.

    Args:
        settings: checked.
        module: its model holds the start's weights.
        params: the model's prunable weights.
        data: set up.
        context: where it is trained, and who watches.
        dense: the record of the dense run, where one was needed; it teaches where that is asked
            for.
        below: the round that this one builds on.
    """

    settings: Settings
    module: TaskModule
    params: Params
    data: TaskData
    context: Context
    dense: dict[str, Any] | None = None
    below: Below | None = None


@dataclass(frozen=True)
class Cost:
    """What scoring took: example equivalents and seconds."""

    examples: float = 0
    seconds: float = 0.0
