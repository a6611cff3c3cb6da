"""The program, keeping account of every batch it trains on and every checkpoint (for `kills`)."""

from __future__ import annotations

import os
from typing import Any

from seven_bench.__main__ import main
from seven_bench.training.checkpoint import Checkpoint

ACCOUNT = os.open(os.environ["ACCOUNT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what: str, checkpoint: Checkpoint, step: int) -> None:
    os.write(ACCOUNT, f"{what} {step} {checkpoint.path.parent}\n".encode())


class Counted(Checkpoint):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        super().on_train_batch_start(trainer, pl_module, *rest)
        note("trained", self, trainer.global_step)

    def _write(self, trainer: Any) -> None:
        super()._write(trainer)
        note("written", self, trainer.global_step)


if __name__ == "__main__":
    import seven_bench.running.run

    seven_bench.running.run.Checkpoint = Counted  # type: ignore[misc]
    main()
