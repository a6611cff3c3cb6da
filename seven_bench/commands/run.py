"""The command line of runs: Hydra's, with one-line errors and a table at a multirun's end.

What a run needs (torch, Lightning) is imported when a run is really to be done.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seven_bench import interrupts
from seven_bench.commands import FULL_ERROR, describe_verbs
from seven_bench.commands.complaints import complain
from seven_bench.commands.search_path import declare_typed
from seven_bench.errors import ConfigError
from seven_bench.running.imports import for_good
from seven_bench.settings.conf import conf_dir
from seven_bench.terminal import say

if TYPE_CHECKING:
    from seven_bench.settings.model import Settings

WANTS_TRACE = os.environ.get(FULL_ERROR) == "1"  # as the user set it, before `main` does


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def task(composed: DictConfig) -> float | None:
    """One run of a composed config; returns its value on validation.

    A single run that fails ends the process here, a job of a multirun raises: the sweeper goes on
    and reports.
    """
    hydra_config: Any = HydraConfig.get()
    if hydra_config.mode != RunMode.RUN:
        with interrupts.job():
            declare_typed(hydra_config, composed.plugins)
            return perform(composed)
    try:
        declare_typed(hydra_config, composed.plugins)
        return perform(composed)
    except Exception as error:
        if WANTS_TRACE:
            raise
        complain(error)
        sys.exit(1)


def perform(composed: DictConfig) -> float | None:
    """Checks a config and does its run, unless that is done; says how it ended in one line."""
    from seven_bench.settings.checks import checked
    from seven_bench.settings.identity import identify
    from seven_bench.store.record import validation_value
    from seven_bench.store.run_folder import BusyError, RunFolder

    settings = checked(composed)
    folder = RunFolder(identify(settings).folder(settings.output_root))
    if settings.dry_run:
        from seven_bench.running.dry_run import print_plan

        print_plan([settings])
        return None
    record, verb = folder.record(), "already done"
    if record is None:
        watched = settings.progress and sys.stderr.isatty() and not interrupts.in_worker()
        if watched:  # libraries take seconds to load
            print(f"{begun(settings)} | {folder.path}", file=sys.stderr, flush=True)
        with for_good("seven_bench.running.run"):
            from seven_bench.running.run import run

        interrupts.check()  # an import may have swallowed it
        try:
            record, verb = run(settings), "done"
        except BusyError as error:
            say(f"skipped: {error}")
            return None
        except OSError as error:
            root = settings.output_root
            if error.filename is None or not str(error.filename).startswith(str(root)):
                raise
            raise ConfigError(
                f"output_root={root}: {error.filename}: {error.strerror} (allowed is a folder to "
                "write in)"
            ) from error
    elif "WANDB_SWEEP_ID" in os.environ:
        from seven_bench.training.loggers import log_done_trial

        log_done_trial(settings, identify(settings).run_id, record)
    say(f"{verb}: {summary(record)} | {folder.path}")
    return validation_value(record, settings.objective)


def begun(settings: Settings) -> str:
    """What is about to be done, in one line."""
    from seven_bench.settings.identity import dense_start, identify, needs_dense, title_of
    from seven_bench.store.run_folder import RunFolder

    words = f"{settings.task.name}, {settings.model.name}: {title_of(settings)}"
    if needs_dense(settings):
        dense = RunFolder(identify(dense_start(settings)).folder(settings.output_root))
        words += "" if dense.record() is not None else "; first its dense start"
    return words


def summary(record: dict[str, Any]) -> str:
    """One line of a record: method, metric, sparsity, kept count, time."""
    metric, params = record["metric"], record["params"]
    split = (record.get("seeds") or {}).get("split")
    seeds = f"split {split} seed {record['seed']}" if split else f"seed {record['seed']}"
    given = (record.get("masks") or {}).get("from")
    method = f"{record['pruner']} ({given})" if given else record["pruner"]
    return (
        f"{method} {seeds} | {metric['split']} {metric['name']} "
        f"{metric['value']:.4f} | sparsity {record['sparsity']['prunable']:.4f} | kept "
        f"{params['kept']:,} of {params['prunable']:,} | {record['cost']['seconds']['total']:.1f} s"
    )


def main(sweepers: Sequence[type[Sweeper]] = ()) -> None:
    """Hydra's part of the command line: one run, or with -m many. `sweepers`: further ones."""
    from seven_bench.commands import sweeper

    os.environ[FULL_ERROR] = "1"  # Hydra then raises to us instead of printing a long story
    OmegaConf.register_new_resolver("verbs", describe_verbs, replace=True)  # of `--help`
    sweeper.register(*sweepers)
    logging.captureWarnings(True)
    logging.getLogger("hydra").setLevel(logging.WARNING)  # its launchers repeat every override
    task()
