"""What training knows of its surroundings: where it computes, what is watched, where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from seven_bench import ranks
from seven_bench.errors import ConfigError

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers import Logger

    from seven_bench.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Device:
    """What a run computes on: `devices` processes, each with a GPU of its own or on the CPU.

    Raises: ConfigError when a GPU is asked for on a machine without one.
    """

    accelerator: str = "auto"
    devices: int = 1
    deterministic: bool = True

    def __post_init__(self) -> None:
        if self.accelerator == "gpu" and not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        ):
            raise ConfigError(
                "trainer.accelerator=gpu: torch finds no GPU on this machine; allowed are auto, cpu"
            )

    def here(self) -> torch.device:
        """Where this process computes."""
        if self.accelerator == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", ranks.rank() % torch.cuda.device_count())


@dataclass(frozen=True)
class Context:
    """The surroundings of one training.

    `metric`, of the task's, chooses the best epoch on validation; `checkpoint` says where to save
    what is needed to go on, and to go on from if it is there; `callbacks` are further ones of
    Lightning's; `progress` shows a bar where a terminal is there to see it, and `title` says there
    what is trained. `every` so many steps loss and sparsity are shown where curves grow.
    """

    metric: str
    higher_is_better: bool = True
    device: Device = Device()
    loggers: Sequence[Logger] = ()
    checkpoint: Checkpoint | None = None
    callbacks: Sequence[Callback] = ()
    progress: bool = False
    title: str = ""
    every: int = 50
