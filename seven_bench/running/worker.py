"""A run that several processes share: starting them, and being one of them.

`python -m seven_bench.running.worker FOLDER` is one process; the run that claimed the folder has
written
its config there. Processes are started by us, not by Lightning, which would run the whole command
line again in each of them: a multirun would then start anew in every one.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from seven_bench.errors import ConfigError

log = logging.getLogger(__name__)
ERROR = ".error"  # what a process writes before it fails
MEETING = ".processes"  # the file over which the processes find each other


def share_out(folder: Path, processes: int) -> None:
    """Runs the work of a claimed folder in several processes and waits for them.

    Raises: ConfigError, ValueError or RuntimeError with the message of the process that failed;
        the others are ended then.
    """
    for name in (ERROR, MEETING):
        (folder / name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "seven_bench.running.worker", str(folder)]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    started = []
    try:
        for rank in range(processes):
            ours = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": processes}
            environment = {**os.environ, **{name: str(value) for name, value in ours.items()}}
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
            started.append(subprocess.Popen(command, env=environment))
        while any(process.poll() is None for process in started):
            if any(process.poll() for process in started):
                break
            time.sleep(0.05)
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()  # it may wait for one that is no more, deaf to anything milder
        codes = [process.wait() for process in started]
        (folder / MEETING).unlink(missing_ok=True)
    if any(codes):
        kind, message, *trace = _error(folder).split("\n", 2)
        log.debug("%s", *trace or [""])
        known = {"ConfigError": ConfigError, "ValueError": ValueError}
        raise known.get(kind, RuntimeError)(message)


def _error(folder: Path) -> str:
    try:
        return (folder / ERROR).read_text()
    except OSError:
        return "RuntimeError\na process of this run ended without saying why"
    finally:
        (folder / ERROR).unlink(missing_ok=True)


def main(folder: Path) -> None:
    """One process's part of the run in `folder`."""
    import torch.distributed as dist

    from seven_bench.running.run import work
    from seven_bench.settings.checks import stored
    from seven_bench.settings.identity import identify

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        settings = stored(folder)
        gpu = settings.trainer.accelerator != "cpu" and _gpu(rank)
        store = dist.FileStore(str(folder / MEETING), world)
        dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=world)
        work(settings, identify(settings), folder)
        dist.barrier()
        dist.destroy_process_group()
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        if not (folder / ERROR).exists():  # the first to fail is the one to tell
            text = f"{type(error).__name__}\n{reason}\n{traceback.format_exc()}"
            (folder / ERROR).write_text(text)
        sys.exit(1)


def _end_with(parent: int) -> None:
    """Ends this process when the one that holds the run's folder is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _gpu(rank: int) -> bool:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    return torch.cuda.is_available()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
