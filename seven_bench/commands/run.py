"""The command line: Hydra's, with one-line errors and a table at the end of a multirun.

What a run needs (torch, Lightning) is imported when a run is really to be done.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seven_bench.errors import ConfigError
from seven_bench.settings.identity import conf_dir

FULL_ERROR = "HYDRA_FULL_ERROR"
LAUNCHER_EXTRAS = {
    "joblib": "joblib",
    "ray": "ray",
    "submitit_slurm": "slurm",
    "submitit_local": "slurm",
}
WANTS_TRACE = os.environ.get(FULL_ERROR) == "1"  # as the user set it, before `main` does


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def task(composed: DictConfig) -> float | None:
    """One run of a composed config; returns its main metric.

    A single run that fails ends the process here, a job of a multirun raises: the sweeper goes on
    and reports.
    """
    single = HydraConfig.get().mode == RunMode.RUN
    try:
        return perform(composed)
    except Exception as error:
        if not single or WANTS_TRACE:
            raise
        sys.exit(complain(error))


def perform(composed: DictConfig) -> float | None:
    """Checks a config and does its run, unless that is done; says how it ended in one line."""
    from seven_bench.settings.checks import checked
    from seven_bench.settings.identity import identify
    from seven_bench.store.run_folder import BusyError, RunFolder

    config = checked(composed)
    folder = RunFolder(identify(config).folder(config["output_root"]))
    if config["dry_run"]:
        from seven_bench.running.dry_run import print_plan

        print_plan([config])
        return None
    record, verb = folder.record(), "already done"
    if record is None:
        from seven_bench.running.run import run

        try:
            record, verb = run(config), "done"
        except BusyError as error:
            print(f"skipped: {error}", flush=True)
            return None
    print(f"{verb}: {summary(record)} | {folder.path}", flush=True)
    value: float = record["metric"]["value"]
    return value


def summary(record: dict[str, Any]) -> str:
    """One line of a record: method, metric, sparsity, kept count, time."""
    metric, params = record["metric"], record["params"]
    return (
        f"{record['pruner']} seed {record['seed']} | {metric['split']} {metric['name']} "
        f"{metric['value']:.4f} | sparsity {record['sparsity']['prunable']:.4f} | kept "
        f"{params['kept']:,} of {params['prunable']:,} | {record['cost']['seconds']['total']:.1f} s"
    )


def main() -> None:
    """Entry of `seven-bench` and `python -m seven_bench`. Exit code 1 after any failure."""
    from seven_bench.commands import sweeper

    os.environ[FULL_ERROR] = "1"  # Hydra then raises to us instead of printing a long story
    sweeper.register()
    logging.captureWarnings(True)
    logging.getLogger("hydra").setLevel(logging.WARNING)  # its launchers repeat every override
    try:
        task()
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it stopped")
    except Exception as error:
        if WANTS_TRACE:
            raise
        sys.exit(complain(error))
    if sweeper.SuiteSweeper.failures:
        sys.exit(1)


def complain(error: BaseException) -> int:
    """Prints an error in one line on stderr; returns the exit code."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 1


def one_line(error: BaseException) -> str:
    """What is wrong, naming key, value and what is allowed."""
    text = str(error).strip()
    if isinstance(error, ConfigError):
        return text
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _of_hydra(text)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror} (output_root must be a folder to write in)"
    first = text.splitlines()[0] if text else ""
    return first if isinstance(error, ValueError) else f"{type(error).__name__}: {first}"


def _of_hydra(text: str) -> str:
    missing = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if missing:
        group, choice = missing.groups()
        if group == "hydra/launcher" and (extra := LAUNCHER_EXTRAS.get(choice)):
            return f"hydra/launcher needs a package: pip install 'seven-bench[{extra}]'"
        listed = text.partition("Available options in")[2].partition("Config search path")[0]
        known = [line.strip() for line in listed.splitlines() if line.startswith("\t")]
        return (
            f"{group}={choice}: unknown {group}; known are {', '.join(known)}{_near(choice, known)}"
        )
    odd = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' is not", text
    )
    if odd:
        key = odd.group(1).split("@")[0]
        full = re.search(r"full_key: (\S+)", text)
        key = full.group(1) if full else key
        return f"{key}: no such key{_near(key, known_keys())} (to add a new one: +{key}=...)"
    told = text.partition("See https://hydra.cc")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip())[:300]


def _near(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def known_keys() -> list[str]:
    """All keys of the default config, dotted, and the names of the groups."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    keys: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            keys.append(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config")
        composed._set_parent(None)
        walk(OmegaConf.to_container(composed, resolve=False), "")
    return [*keys, *(path.name for path in conf_dir().iterdir() if path.is_dir())]
