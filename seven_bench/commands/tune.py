"""`seven-bench tune experiment=... trials=16`: as many trials of settings for every method."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from seven_bench.commands.sweeper import PLUGIN_MODULE, Job, SuiteSweeper
from seven_bench.errors import ConfigError
from seven_bench.interrupts import Interrupted
from seven_bench.running.tuning import Trial, Trials, Winner, check_installed
from seven_bench.settings.conf import choice, names_of
from seven_bench.settings.identity import identify
from seven_bench.settings.model import Settings
from seven_bench.settings.node import Role, role_of, shown
from seven_bench.settings.space import Value, digest, read_space
from seven_bench.store.atomic import replace_file
from seven_bench.store.record import validation_value

FOLDER = "tuning"  # below output_root
OWN = {"trials": "trials", "space": "space", "at": "at", "trial_seed": "seed"}
#: What trials have of their own, and a method's reported runs are repeated by.
REPORTED = ("sparsity", "seed", "calibration.seed")
#: What says where things go; how `seven-bench tune` was told is nothing that a winner has.
PLACES = {n for n, field in Settings.model_fields.items() if role_of(field) is Role.PLACE}

EPILOG = """\
keys of its own, beside those of runs:
  trials=16         trials of each method, the dense row included, in each split of the data
  space=recipe      what is varied: a file of conf/tune/; a method adds what its file of pruner/
                    says under `tune`
  at=0.95           the sparsity of the trials (default: the middle one)
  trial_seed=1000   the seed of the trials, which no reported run has

A trial is an ordinary run, below OUTPUT_ROOT/tuning/NAME; its value is that of validation at the
epoch that is measured (objective=loss: another metric than the task's). The first is what stands
there untuned (where that lies outside the space, the key is drawn), some are drawn at random, the
same for all methods, then Optuna's TPE chooses. The same command goes on where one was stopped, and
with more trials; with fewer it chooses among the first of them. A trial that failed counts as one.
Launchers run the methods of a round side by side.

The winners are an experiment, which an ordinary multirun reads:
  seven-bench tune experiment=digits_tuned trials=8 hydra/launcher=parallel
  seven-bench -m --config-dir outputs/tuning/digits_tuned experiment=digits_tuned_winners
Tables say the number of trials, and a run's bill holds what they cost.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as of a multirun")
    parser.add_argument("--config-dir", metavar="DIR", help="a further folder of config groups")


def main(options: argparse.Namespace) -> int:
    """Has Hydra compose the runs of a multirun, and tunes them in the place of running them."""
    from seven_bench.commands.run import main as run

    check_installed()
    given = ["hydra/sweeper=tune"]
    for override in options.overrides:
        key, equals, value = override.partition("=")
        given.append(f"hydra.sweeper.{OWN[key]}{equals}{value}" if key in OWN else override)
    folder = ["--config-dir", options.config_dir] if options.config_dir else []
    sys.argv = [sys.argv[0], "-m", *given, *folder]
    run([TuneSweeper])
    return 0


@dataclass
class Study:
    """One method, with all that the experiment says of it but sparsity and seed."""

    overrides: tuple[str, ...]  # of its runs
    cell: tuple[str, ...]  # those of them that say what it is
    sparsities: list[str] = field(default_factory=list)
    seeds: list[str] = field(default_factory=list)
    draws: list[str] = field(default_factory=list)  # of calibration
    job: Job | None = None  # untuned, as its trials are
    trials: Trials | None = None
    start: float = 0.0  # example equivalents of the trials' dense start

    @property
    def name(self) -> str:
        return " ".join(o for o in self.cell if not o.startswith("experiment=")) or "runs"

    def at(self, sparsity: str | None) -> str | None:
        """The sparsity of its trials; None where it has none."""
        if not self.sparsities:
            return None
        return sparsity or sorted(self.sparsities, key=float)[len(self.sparsities) // 2]


class TuneSweeper(SuiteSweeper):
    """Tunes the runs of a suite, method by method.

    Args:
        cells, params: the suite's. trials, space, at, seed: see EPILOG.
    """

    __module__ = PLUGIN_MODULE

    def __init__(
        self, cells: Any, params: Any, trials: Any, space: Any, at: Any, seed: Any
    ) -> None:
        super().__init__(cells, params)
        if not isinstance(trials, int) or isinstance(trials, bool) or not 1 <= trials <= 10**4:
            raise ConfigError(f"trials={shown(trials)}: allowed is a whole number from 1 to 10000")
        if space not in names_of("tune"):
            known = ", ".join(names_of("tune"))
            raise ConfigError(f"space={shown(space)}: allowed are {known}, the files of tune/")
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ConfigError(f"trial_seed={shown(seed)}: allowed is a whole number from 0")
        self.trials, self.space, self.seed = trials, str(space), seed
        self.at = None if at is None else str(at)

    def sweep(self, arguments: list[str]) -> None:
        studies = self._studies(arguments)
        typed = dict(argument.partition("=")[::2] for argument in arguments)
        experiment = typed.get("experiment")
        name = (experiment or "runs").replace("/", "-")
        root = Path(self._job(studies[0].overrides).settings.output_root) / FOLDER / name
        print(
            f"{len(studies)} studies of {self.trials} trials: {len(studies) * self.trials} runs "
            f"below {root}",
            flush=True,
        )
        if self.config.dry_run:
            return
        root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(root / ".lock", timeout=0):
                for study in studies:
                    self._open(study, root)
                self._run(studies)
                path = root / "experiment" / f"{name}_winners.yaml"
                won = self._winners(studies)
                path.parent.mkdir(exist_ok=True)
                replace_file(path, self._write(won, experiment, name).encode())
        except Timeout as error:
            raise ConfigError(f"{root}: another process tunes here") from error
        _show(won)
        print(f"the winners, as an experiment: {path}")
        print(f"  seven-bench -m --config-dir {root} experiment={name}_winners", flush=True)
        if len(won) < len(studies):
            lost = [study.name for study in studies if study not in [each for each, _ in won]]
            raise ConfigError(f"no trial gave a value, so nothing was chosen: {'; '.join(lost)}")

    def _studies(self, arguments: list[str]) -> list[Study]:
        found: dict[tuple[str, ...], Study] = {}
        for overrides in self._expand(arguments):
            named = [(o.partition("=")[0], o) for o in overrides]
            kept = tuple(o for n, o in named if n not in REPORTED)
            cell = tuple(o for o in kept if o.partition("=")[0].partition(".")[0] not in PLACES)
            study = found.setdefault(cell, Study(kept, cell))
            lists = (study.sparsities, study.seeds, study.draws)
            for name, values in zip(REPORTED, lists, strict=True):
                values += [o.partition("=")[2] for n, o in named if n == name]
        if not found:
            raise ConfigError("nothing to tune: a swept key has no values")
        for study in found.values():
            study.sparsities = [*dict.fromkeys(study.sparsities)]
            study.draws = [*dict.fromkeys(study.draws)]
            study.seeds = [*dict.fromkeys(study.seeds or ["0"])]
            if str(self.seed) in study.seeds:
                raise ConfigError(
                    f"trial_seed={self.seed}: trials have a seed of their own, and {study.name} is "
                    f"reported with {', '.join(study.seeds)}"
                )
        return [*found.values()]

    def _open(self, study: Study, root: Path) -> None:
        at = study.at(self.at)
        own = [f"seed={self.seed}", f"output_root={root}"]
        own += [f"sparsity={at}"] if at is not None else []
        own += ["calibration.seed=null"] if study.draws else []  # that of the trials' own seed
        kept = [o for o in study.overrides if not o.startswith("output_root=")]
        study.overrides = (*kept, *own)
        study.job = self._job(study.overrides)
        settings = study.job.settings
        plain = choice(f"tune/{self.space}")
        space, present = read_space(plain, settings)
        name = f"{study.name} seed={self.seed} sparsity={at} objective={settings.objective}"
        name += f" {digest(self.space, {**plain, **settings.pruner.tune})}"
        # files, data or code from outside that changed are another study
        name += f" {identify(settings).run_id}"
        study.trials = Trials(root, name, space, present, _higher(settings), self.seed)

    def _run(self, studies: Sequence[Study]) -> None:
        """Rounds of one trial of each study, until all have theirs."""
        for _ in range(self.trials):
            taken = [(study, trial) for study, trial in self._take(studies) if trial is not None]
            if not taken:
                break
            jobs = {}
            for study, trial in taken:
                assert study.trials is not None
                try:
                    jobs[trial.number, study.name] = self._job(
                        (*study.overrides, *(f"{k}={_text(v)}" for k, v in _typed(trial.chosen)))
                    )
                except ConfigError as error:  # what does not go together was tried, and is nothing
                    print(f"{study.name}: trial {trial.number} cannot run: {error}")
                    study.trials.tell(trial, None)
            todo = [job for job in jobs.values() if job.folder.record() is None]
            stopped: Interrupted | None = None
            if todo:
                stopped, failures = self._launch(todo)
                for failure in failures:
                    print(f"{failure.command}\n  {failure.reason}", file=sys.stderr)
            for study, trial in taken:
                if (job := jobs.get((trial.number, study.name))) is not None:
                    _tell(study, trial, job, stopped is not None)
            done = sum(s.trials.finished(self.trials) for s in studies if s.trials)
            print(f"{done} of {len(studies) * self.trials} trials are done", flush=True)
            if stopped is not None:
                raise stopped

    def _take(self, studies: Sequence[Study]) -> Iterator[tuple[Study, Trial | None]]:
        for study in studies:
            assert study.trials is not None
            yield study, study.trials.take(self.trials)

    def _winners(self, studies: Sequence[Study]) -> list[tuple[Study, Winner]]:
        found = ((s, s.trials.winner(self.trials)) for s in studies if s.trials is not None)
        return [(study, winner) for study, winner in found if winner is not None]

    def _write(self, won: Sequence[tuple[Study, Winner]], experiment: str | None, name: str) -> str:
        """The winners as a file of `experiment/`."""
        cells = []
        objective = next((s.job.settings.objective for s, _ in won if s.job is not None), None)
        given = {"at": self.at, "objective": objective}  # tuned so is tuned otherwise
        stated = {key: value for key, value in given.items() if value is not None}
        space = digest(self.space, {**choice(f"tune/{self.space}"), **stated})
        for study, winner in won:
            assert study.trials is not None
            typed = dict(o.partition("=")[::2] for o in study.cell)
            typed.pop("experiment", None)
            cell = {key: _read(value) for key, value in typed.items()}
            cell |= dict(_typed(winner.chosen))
            cell |= {
                "tuning.trials": self.trials,
                "tuning.space": space,
                "tuning.chosen": f"[{','.join(winner.chosen)}]",
                "tuning.examples": study.trials.examples(self.trials),
                "seed": [int(seed) for seed in study.seeds],
            }
            if study.sparsities:
                cell["sparsity"] = [float(sparsity) for sparsity in study.sparsities]
            if study.draws:
                cell["calibration.seed"] = [_read(draw) for draw in study.draws]
            cells.append(cell)
        sweeper = {"cells": cells, "params": None}
        body = {"hydra": {"mode": "MULTIRUN", "sweeper": sweeper}, "suite": f"{name}_winners"}
        head = {"defaults": [experiment, "_self_"]} if experiment else {}
        text = yaml.safe_dump({**head, **body}, sort_keys=False, width=100)
        return (
            f"# @package _global_\n# What {self.trials} trials of each method chose, on validation "
            f"with seed {self.seed}, which is not reported.\n"
            f"#   seven-bench -m --config-dir DIR experiment={name}_winners\n{text}"
        )


def _tell(study: Study, trial: Trial, job: Job, stopped: bool) -> None:
    assert study.trials is not None
    record = job.folder.record()
    if record is None:
        if not stopped or job.folder.state() == "failed":
            study.trials.tell(trial, None)
        return  # interrupted: it is taken up again
    bill = record["cost"]["example_equivalents"]
    value = validation_value(record, job.settings.objective)
    apart = ("total", "start", "masks")  # a run bills its masks itself, if anybody knows
    spent = sum(cost for name, cost in bill.items() if name not in apart)
    study.trials.tell(trial, value, spent, bill["start"])


def _higher(settings: Settings) -> bool:
    metric, objective = settings.task.metric, settings.objective
    if objective in (None, metric.name):
        return metric.higher_is_better
    return objective != "loss"


def _typed(chosen: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """What was chosen, by the keys that set it: a file need not name all arguments of a score."""
    for key, value in chosen.items():
        yield (f"++{key}" if key.startswith("pruner.") else key), value


def _read(typed: str) -> Any:
    """What was typed, as it is to be typed again: one value. A list would be swept, and a number of
    another form, such as `007`, be another one: these stay as they were written.
    """
    value = yaml.safe_load(typed)
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain and _text(value) == typed else typed


def _text(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _show(won: Sequence[tuple[Study, Winner]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from seven_bench.terminal import console

    table = Table(title="What the trials chose, on validation", title_justify="left", box=None)
    for head in ("what", "trials", "first", "best", "trial", "chosen"):
        table.add_column(head, overflow="fold")
    for study, winner in won:
        values = ["failed" if v is None else f"{v:.4f}" for v in winner.values]
        chosen = ", ".join(f"{key}={_text(value)}" for key, value in winner.chosen.items())
        assert study.trials is not None
        untuned = " untuned" if study.trials.untuned else ""
        failed = values.count("failed")
        count = f"{len(values)}, {failed} failed" if failed else str(len(values))
        words = (study.name, count, f"{values[0]}{untuned}", f"{winner.value:.4f}")
        table.add_row(*map(Text, (*words, str(winner.number), chosen)))
    console().print(table)
