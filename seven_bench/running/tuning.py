"""Trials of settings: what is tried next, what came out, and what won. Optuna's, in one journal.

A trial is an ordinary run below the journal's folder; one that was interrupted is taken up with the
settings that it was given. What is drawn depends on the trials before it alone, so that the same
command gives the same trials on any number of workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.errors import ConfigError, install_line
from seven_bench.settings.space import Choice, Space, Value
from seven_bench.store.files import TRIALS

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

BILLS = "bills"  # a study's attribute: what each trial cost
RANDOM = 4  # trials that are drawn at random, after the first, before a model of them chooses


@dataclass(frozen=True)
class Trial:
    """One trial: its number, and the settings it is to run with, by dotted key."""

    number: int
    chosen: dict[str, Value]


@dataclass(frozen=True)
class Winner:
    """What the trials of one study have found. `values`: what each gave, None where it failed."""

    chosen: dict[str, Value]
    value: float
    number: int
    values: tuple[float | None, ...]


class Trials:
    """The trials of one method: `take` some, run them, `tell` what came out.

    Args:
        folder: of the journal, which all studies of a command share.
        name: of the study in it.
        space: what is chosen from.
        present: where the settings stand without tuning, as drawn: the first trial.
        higher: whether a higher value is better.
        seed: of what is drawn; the same for every method, so that their first trials are the same.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        space: Space,
        present: dict[str, Value],
        higher: bool,
        seed: int,
    ) -> None:
        self.name, self.space, self.present, self.seed = name, space, present, seed
        self.distributions = {key: _distribution(knob) for key, knob in space.items()}
        self.study = _open(folder, name, higher)
        self.higher = higher

    def take(self, trials: int) -> Trial | None:
        """The next trial to run: one that was left, or else a new one; None where all are done."""
        found = self._whole()
        for trial in found:
            if not trial.state.is_finished():
                return self._trial(trial)
        if len(found) >= trials:
            return None
        if not found:
            self.study.enqueue_trial(self.present, skip_if_exists=True)
        self.study.sampler = _sampler(self.seed, len(found))
        asked = self.study.ask(self.distributions)
        return self._trial(self.study.get_trials(deepcopy=False)[asked.number])

    def tell(
        self, trial: Trial, value: float | None, examples: float = 0.0, start: float = 0.0
    ) -> None:
        """What a trial gave; None: it failed. `examples`: what it cost by itself, in example
        equivalents, and `start` the dense run that all trials begin from.
        """
        from optuna.trial import TrialState

        bills = self.study.user_attrs.get(BILLS, {})
        bill = {"examples": examples, "start": start}
        self.study.set_user_attr(BILLS, {**bills, str(trial.number): bill})
        if value is None or not math.isfinite(value):
            self.study.tell(trial.number, state=TrialState.FAIL)
        else:
            self.study.tell(trial.number, value)

    @property
    def untuned(self) -> bool:
        """Whether the first trial is what stands there: not where that lies outside the space."""
        return self.present.keys() == self.space.keys()

    def finished(self, trials: int) -> int:
        """How many of the first `trials` are done."""
        return sum(trial.state.is_finished() for trial in self._whole()[:trials])

    def winner(self, trials: int) -> Winner | None:
        """The best of the first `trials`, the first of equal ones; None where none gave a value.
        What an earlier command tried beyond these is nothing that other methods had.
        """
        found = self._whole()[:trials]
        values = tuple(trial.value if trial.state.is_finished() else None for trial in found)
        known = [(value, at) for at, value in enumerate(values) if value is not None]
        if not known:
            return None
        value, at = max(known, key=lambda pair: (pair[0] if self.higher else -pair[0], -pair[1]))
        return Winner(self._trial(found[at]).chosen, value, found[at].number, values)

    def examples(self, trials: int) -> float:
        """What the first `trials` cost, and their start once. One that failed left no bill: it is
        billed as the dearest.
        """
        known = self.study.user_attrs.get(BILLS, {})
        numbers = [str(trial.number) for trial in self._whole()[:trials]]
        bills = [known[number] for number in numbers if number in known]
        dearest = max((bill["examples"] for bill in bills), default=0.0)
        start = max((bill["start"] for bill in bills), default=0.0)
        return float(start + sum(bill["examples"] or dearest for bill in bills))

    def _whole(self) -> list[FrozenTrial]:
        """Trials with all their settings: a process that is killed may leave one without."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.params.keys() == self.space.keys()]

    def _trial(self, trial: FrozenTrial) -> Trial:
        chosen = {}
        for key, knob in self.space.items():
            drawn = trial.params[key]
            chosen[key] = drawn if isinstance(knob, Choice) else knob.value(drawn)
        return Trial(trial.number, chosen)


def check_installed() -> None:
    """Raises: ConfigError without Optuna."""
    if find_spec("optuna") is None:
        raise ConfigError(f"tune needs a package: {install_line('tune')}")


def _open(folder: Path, name: str, higher: bool) -> Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / TRIALS))),
        study_name=name,
        direction="maximize" if higher else "minimize",
        load_if_exists=True,
    )


def _sampler(seed: int, number: int) -> Any:
    """Tree-structured Parzen estimator; Bergstra et al. 2011 (NeurIPS)."""
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=RANDOM + 1, seed=seed * 10_007 + number)


def _distribution(knob: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(knob, Choice):
        return CategoricalDistribution(knob.values)
    return FloatDistribution(knob.low, knob.high, log=knob.log)
