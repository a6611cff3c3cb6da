"""One of the processes that share a run: `python -m ...worker FOLDER MEETING PID PLUGINS...`.

FOLDER has the config, written by the process PID that claimed it; MEETING is the file over which
the processes find each other; PLUGINS are those that were declared to that process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seven_bench import interrupts
from seven_bench.running.imports import for_good
from seven_bench.settings.conf import declare_arguments


def main(folder: Path, meeting: str) -> int:
    """This process's part of the run in `folder`; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_part)(folder, meeting)
    except interrupts.Interrupted as error:
        return error.code
    except Exception:
        return 1
    return 0


def _part(folder: Path, meeting: str) -> None:
    with for_good("seven_bench.running.run"):
        import torch.distributed as dist

        from seven_bench.running.run import work
    from seven_bench.settings.checks import stored
    from seven_bench.settings.identity import identify

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    settings = stored(folder)
    gpu = settings.trainer.accelerator != "cpu" and _gpu(rank)
    store = dist.FileStore(meeting, world)  # type: ignore[attr-defined]
    dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=world)
    work(settings, identify(settings), folder)
    dist.barrier()
    dist.destroy_process_group()


def _gpu(rank: int) -> bool:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    return torch.cuda.is_available()


if __name__ == "__main__":
    interrupts.end_with_parent(int(sys.argv[3]))
    declare_arguments(sys.argv[4:])
    with interrupts.watched():
        code = main(Path(sys.argv[1]), sys.argv[2])
    sys.exit(code)
