"""Curves: metrics.csv in the run's folder always, W&B beside it when asked."""

from __future__ import annotations

import csv
import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from seven_bench.settings.model import Settings
from seven_bench.store.atomic import replace_file
from seven_bench.store.files import CURVES
from seven_bench.store.home import without_home

log = logging.getLogger(__name__)
SERVER = "https://api.wandb.ai"  # W&B's own, unless WANDB_BASE_URL says otherwise
SWEEP = "WANDB_SWEEP_ID"
#: What an agent says of the trial that it has asked for.
AGENT = (SWEEP, "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_NAME", "WANDB_RESUME")
SUMMARY = "summary"
LONGEST_TAG = 64  # characters, by W&B
ANSWER_SECONDS = 6.0  # for the server to answer at all
INIT_SECONDS = 10.0  # for it to take a run


class CurvesLogger(Logger):
    """`metrics.csv` in the run's folder, whole at any moment: a row a step, a column a metric.

    Rows of an earlier part of the same run, up to the step where it goes on, are kept.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / CURVES
        self.rows: dict[int, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        return "curves"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The config is in config.yaml already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = self.rows.setdefault(int(step or 0), {})
        row.update({name: float(value) for name, value in metrics.items()})

    def continue_from(self, step: int) -> None:
        """Takes up the rows before `step` that an interrupted part of this run has written."""
        if self.path.is_file():
            with self.path.open(newline="") as file:
                for row in csv.DictReader(file):
                    if int(row["step"]) < step:
                        values = {k: float(v) for k, v in row.items() if k != "step" and v}
                        self.rows[int(row["step"])] = values

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:  # Lightning saves at the start: what a run left here is not taken up yet
            return
        columns = sorted({name for row in self.rows.values() for name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *columns])
        writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in sorted(self.rows.items()))
        replace_file(self.path, text.getvalue().encode())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


@contextmanager
def loggers(settings: Settings, run_id: str, folder: Path) -> Iterator[list[Logger]]:
    """The loggers of one run. W&B's run is ended with the exit code, however the block ends; a
    failure of W&B is a warning, never the run's failure.
    """
    curves: Logger = CurvesLogger(folder)
    mirrored = settings.logger.name == "wandb"
    wandb_logger = _start_wandb(settings, run_id) if mirrored else None
    failed = 1
    try:
        yield [curves, wandb_logger] if wandb_logger else [curves]
        failed = 0
    finally:
        if wandb_logger is not None:
            _finish_wandb(failed)


def summarize_in_wandb(record: dict[str, Any]) -> None:
    """Final figures, under `final/`, of the run that is being logged (if one is): a last row of its
    history, so that curves over sparsity can be drawn of them, and its summary.
    """
    try:
        import wandb

        if wandb.run is not None:
            wandb.run.log(final_figures(record))
    except Exception as error:  # whatever W&B does, the record is written
        log.warning("W&B took no summary: %s", _line(error))


def final_figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """What W&B is told of a finished run, all of it from its record: metrics, the four sparsities,
    counts, cost, seconds, bytes, MACs; and the validation that a sweep goes by.
    """
    measured, cost = record.get("efficiency") or {}, record["cost"]
    chosen = (record.get("validation") or {}).get(record["metric"]["epoch"]) or {}
    parts: dict[str, Mapping[str, Any]] = {
        "final/": record["metrics"],
        "final/sparsity_": record["sparsity"],
        "final/cost/": cost["example_equivalents"],
        "final/seconds/": cost["seconds"],
        "final/bytes/": measured.get("bytes") or {},
        "final/macs/": measured.get("macs") or {},
        "validation/": chosen,
    }
    figures = {
        f"{prefix}{name}": value
        for prefix, part in parts.items()
        for name, value in part.items()
        if isinstance(value, int | float)
    }
    figures["final/sparsity"] = record["sparsity"]["prunable"]
    figures["final/kept"] = record["params"]["kept"]
    figures["final/peak_memory_bytes"] = cost["peak_memory_bytes"]
    return figures


def log_done_trial(settings: Settings, run_id: str, record: Mapping[str, Any]) -> None:
    """A trial of a W&B sweep whose run is finished already tells its figures at once: the agent
    waits for them.
    """
    if settings.logger.name != "wandb" or SWEEP not in os.environ:
        return
    if _start_wandb(settings, run_id) is not None:
        summarize_in_wandb(dict(record))
        _finish_wandb(0)


@contextmanager
def not_the_trial() -> Iterator[None]:
    """Runs within are others' than the trial that a W&B agent has asked for, such as its dense
    start: its id and its sweep are not theirs.
    """
    kept = {name: os.environ.pop(name) for name in AGENT if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def log_suite(settings: Settings, figures: Mapping[str, Path]) -> None:
    """The suite's own run of W&B, `summary`: its figures as media, by name."""
    if settings.logger.name != "wandb":
        return
    with not_the_trial():
        if _start_wandb(settings, SUMMARY) is None:
            return
        try:
            import wandb

            assert wandb.run is not None
            wandb.run.log({f"figures/{n}": wandb.Image(str(p)) for n, p in figures.items()})
        except Exception as error:
            log.warning("W&B took no figures: %s", _line(error))
        _finish_wandb(0)


_agents_seen: str | None = None  # the trial that W&B's settings of this process were read with


def _start_wandb(settings: Settings, run_id: str) -> WandbLogger | None:
    chosen = settings.logger
    mode: Any = chosen.mode or os.environ.get("WANDB_MODE") or "offline"
    folder = Path(settings.output_root)
    if (
        mode == "online"
        and (fault := _unreachable(os.environ.get("WANDB_BASE_URL") or SERVER)) is not None
    ):
        log.info("W&B is offline: %s", fault)
        mode = "offline"
    # W&B tells of itself on stderr at every start and end; its own variable still wins
    os.environ.setdefault("WANDB_SILENT", "true")
    global _agents_seen
    try:
        import wandb

        wandb.finish()  # a run that another job of this process left open is not ours
        if _agents_seen != (seen := os.environ.get("WANDB_RUN_ID")):
            wandb.teardown()  # it reads its variables once a process
            _agents_seen = seen
        init = partial(
            wandb.init,
            dir=str(folder),
            project=chosen.project,
            entity=chosen.entity,
            name=run_id,
            group=settings.suite,
            job_type=SUMMARY if run_id == SUMMARY else settings.pruner.name,
            tags=_tags(settings, run_id),
            config=without_home({n: v for n, v in settings.plain().items() if n != "logger"}),
            settings=wandb.Settings(init_timeout=INIT_SECONDS),
        )
        try:
            init(mode=mode)
        except Exception as error:
            if mode != "online":
                raise
            log.info("W&B is offline: %s", _line(error))
            wandb.teardown()  # else it waits for its server again
            init(mode="offline")
        for curves in ("step/*", "progress/*", "density/*", "train/*", "validation/*"):
            wandb.define_metric(curves, step_metric="trainer/global_step")
        return WandbLogger(experiment=wandb.run, log_model=False)
    except Exception as error:
        log.warning("W&B is off for this run: %s", _line(error))
        return None


def _tags(settings: Settings, run_id: str) -> list[str]:
    own = [settings.task.name, settings.model.name]
    if run_id != SUMMARY:
        start = f"start={settings.start.kind}"
        own += [settings.pruner.name, start, f"sparsity={settings.sparsity:g}"]
    own += ["debug"] if settings.debug else []
    return [tag[:LONGEST_TAG] for tag in dict.fromkeys([*own, *settings.logger.tags])]


@cache
def _unreachable(server: str) -> str | None:
    """Why nothing answers there, or None. Asked once a process, for a few seconds: W&B itself would
    wait for minutes, and again at the end.
    """
    faults = ["no answer"]

    def ask() -> None:  # in a thread: looking up a name knows no time-out
        try:
            urlopen(server, timeout=ANSWER_SECONDS).close()
            faults.clear()
        except HTTPError:  # whatever it says, it is there
            faults.clear()
        except (OSError, ValueError) as error:
            faults[0] = _line(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return f"{server} does not answer ({faults[0]})" if faults else None


def _finish_wandb(exit_code: int) -> None:
    try:
        import wandb

        wandb.finish(exit_code=exit_code)
    except Exception as error:
        log.warning("W&B did not finish: %s", _line(error))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
