"""Trials in one journal: what is drawn, taken up, chosen and billed."""

import pytest

from seven_bench.running.tuning import Trials
from seven_bench.settings.space import Choice, Range

SPACE = {"trainer.lr": Range(0.2, 5, log=True, unit=0.001), "trainer.warmup": Choice((0.0, 0.1))}
OWN = {"pruner.score.a1": Choice((0.6, 0.8))}
PRESENT = {"trainer.lr": 1.0, "trainer.warmup": 0.1}


def open_trials(folder, name="snip", space=SPACE, higher=True):
    return Trials(folder, name, space, PRESENT, higher, seed=7)


def value_of(trial):
    return -abs(trial.chosen["trainer.lr"] - 0.002)


def run_all(trials, count):
    chosen = []
    while (trial := trials.take(count)) is not None:
        trials.tell(trial, value_of(trial), examples=10, start=100)
        chosen.append(trial.chosen)
    return chosen


def test_the_first_trial_is_untuned_and_the_next_are_those_of_every_method(tmp_path):
    one = run_all(open_trials(tmp_path, "snip"), 5)
    other = run_all(open_trials(tmp_path, "seven", {**SPACE, **OWN}), 5)
    assert one[0] == {"trainer.lr": 0.001, "trainer.warmup": 0.1}
    assert [{key: trial[key] for key in SPACE} for trial in other] == one
    assert len({trial["trainer.lr"] for trial in one}) == 5


def test_a_study_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = run_all(open_trials(tmp_path / "one"), 8)
    parts = run_all(open_trials(tmp_path / "two"), 3)
    left = open_trials(tmp_path / "two").take(8)  # and is killed with a trial at work
    again = open_trials(tmp_path / "two").take(8)
    assert again == left
    assert parts + run_all(open_trials(tmp_path / "two"), 8) == whole
    assert open_trials(tmp_path / "two").take(8) is None


def test_the_best_wins_and_of_equal_ones_the_first(tmp_path):
    trials = open_trials(tmp_path, higher=False)
    for value in (0.5, 0.3, None, 0.3):
        trial = trials.take(9)
        trials.tell(trial, value, examples=0 if value is None else 10, start=100)
    winner = trials.winner(4)
    assert (winner.number, winner.value, winner.values) == (1, 0.3, (0.5, 0.3, None, 0.3))
    assert trials.finished(4) == 4
    assert trials.examples(4) == 100 + 4 * 10  # the start once, what failed as the dearest


def test_what_was_tried_beyond_the_trials_of_every_method_is_not_chosen_nor_billed(tmp_path):
    trials = open_trials(tmp_path)
    for value in (0.5, 0.6, 0.9):  # a method that had three trials, beside others of two
        trials.tell(trials.take(3), value, examples=10, start=100)
    assert trials.take(2) is None and trials.finished(2) == 2
    assert trials.winner(2).number == 1 and trials.winner(2).values == (0.5, 0.6)
    assert trials.examples(2) == 100 + 2 * 10


def test_the_first_trial_is_called_untuned_where_the_space_has_what_stands_there(tmp_path):
    assert open_trials(tmp_path).untuned
    assert not open_trials(tmp_path, "seven", {**SPACE, **OWN}).untuned


def test_where_all_failed_nothing_wins(tmp_path):
    trials = open_trials(tmp_path)
    trials.tell(trials.take(1), float("nan"))
    assert trials.winner(1) is None and trials.take(1) is None


@pytest.mark.parametrize("drawn", [0.31415926, 1.0])
def test_a_number_has_three_digits(drawn):
    assert Range(0.2, 5, unit=5e-4).value(drawn) == float(f"{drawn * 5e-4:.2e}")
