"""`seven-bench tune`, and what a run returns to any tuner."""

import csv

import pytest
import yaml
from omegaconf import OmegaConf

from seven_bench.commands.run import perform
from seven_bench.commands.sweeper import _values
from seven_bench.commands.tune import _read
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.tables import build_table
from seven_bench.settings.conf import choice
from seven_bench.settings.identity import identify
from seven_bench.settings.space import digest
from seven_bench.store.record import read_record
from tests.conftest import program

STEPS = ("trainer.max_steps=3", "start.train.max_steps=3", "trainer.max_epochs=1")
QUIET = ("logger=none", "progress=false")


def test_a_run_returns_its_validation_and_never_test(make_config):
    config = make_config("start=init", "pruner=magnitude", "trainer.max_epochs=1", *QUIET)
    folder = identify(config).folder(config.output_root)
    composed = OmegaConf.create(config.plain())
    found = {None: perform(composed)}
    for objective in ("loss", "accuracy"):
        found[objective] = perform(OmegaConf.create({**config.plain(), "objective": objective}))
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("validation/accuracy")]
    assert found[None] == found["accuracy"] == pytest.approx(float(rows[-1]["validation/accuracy"]))
    assert found["loss"] == pytest.approx(float(rows[-1]["validation/loss"]))
    assert all(validation["accuracy"] == found[None] for validation in read(folder).values())


def read(folder):
    return read_record(folder / "result.json")["validation"]


def test_training_that_ends_inside_an_epoch_is_validated_at_its_end(make_config):
    config = make_config("start=init", "pruner=magnitude", *STEPS, *QUIET)
    value = perform(OmegaConf.create(config.plain()))
    found = read(identify(config).folder(config.output_root))
    assert found["last"] == found["best"] and value == found["last"]["accuracy"]


def test_an_objective_that_is_not_measured_is_refused(make_config):
    with pytest.raises(ValueError, match=r"objective=f1: allowed are accuracy, loss, or null"):
        make_config("objective=f1")


def test_methods_are_tuned_alike_and_the_winners_are_an_experiment(tmp_path):
    given = ("pruner=dense,magnitude", "sparsity=0.9", "seed=0", *STEPS, *QUIET)
    root = f"output_root={tmp_path}"
    done = program("tune", *given, root, "trials=2")
    assert done.returncode == 0, done.stderr
    assert "4 of 4 trials are done" in done.stdout
    folder = tmp_path / "tuning/runs"
    assert collect([tmp_path]).records.empty  # trials are no results
    trials = collect([folder]).records
    assert set(trials["seed"]) == {1000} and set(trials["sparsity.target"]) == {0.0, 0.9}

    (path,) = (folder / "experiment").iterdir()
    cells = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["cells"]
    assert [cell["pruner"] for cell in cells] == ["dense", "magnitude"]
    assert all(cell["tuning.trials"] == 2 and cell["tuning.examples"] > 0 for cell in cells)

    again = program("tune", *given, root, "trials=2")
    assert again.returncode == 0 and "done:" not in again.stdout  # nothing is trained again
    assert path.read_text().count("pruner:") == 2

    command = ("-m", "--config-dir", str(folder), "experiment=runs_winners", *QUIET, root)
    done = program(*command)
    assert done.returncode == 0, done.stderr
    records = collect([tmp_path]).records
    (group,) = split_groups(records[records["recipe.tuning.trials"].notna()])
    assert group.methods == ["magnitude"] and len(group.dense) == 1
    assert "Tuned: every method by 2 trials in the space recipe-" in build_table(group).caption
    bill = "cost.example_equivalents"
    billed = records.set_index("pruner")[[f"{bill}.tuning", f"{bill}.total"]].loc["magnitude"]
    assert (billed[f"{bill}.tuning"] == cells[1]["tuning.examples"]).all()
    assert (billed[f"{bill}.total"] > billed[f"{bill}.tuning"]).all()


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("0.9", 0.9), ("true", True), ("null", None), ("snip", "snip"), ("3e-5", "3e-5"),
        ("[pooler]", "[pooler]"), ("007", "007"), ("yes", "yes"), ("2026-01-02", "2026-01-02"),
    ],
)  # fmt: skip
def test_what_was_typed_is_one_value_of_the_winners_experiment(typed, read):
    assert _read(typed) == read
    loaded = yaml.safe_load(yaml.safe_dump({"key": _read(typed)}))
    assert _values("key", loaded["key"]) == [f"key={typed}"]


def test_draws_of_calibration_repeat_a_method_and_are_no_methods_of_their_own(tmp_path):
    draws = ("seed=0,1", "calibration.seed=3,4")
    given = ("pruner=snip", "start=init", "sparsity=0.9", *draws, *STEPS, *QUIET)
    done = program("tune", *given, f"output_root={tmp_path}", "trials=1", "at=0.9")
    assert done.returncode == 0, done.stderr
    assert "1 studies of 1 trials: 1 runs" in done.stdout
    (path,) = (tmp_path / "tuning/runs/experiment").iterdir()
    (cell,) = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["cells"]
    assert (cell["seed"], cell["calibration.seed"]) == ([0, 1], [3, 4])
    # tuned at a sparsity of the user's own is tuned otherwise than at the middle one
    assert cell["tuning.space"] == digest("recipe", {**choice("tune/recipe"), "at": "0.9"})
    (trial,) = collect([tmp_path / "tuning/runs"]).records.to_dict("records")
    assert trial["seeds.calibration"] == trial["seed"] == 1000  # no draw that is reported


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trials=0", "trials=0: allowed is a whole number from 1 to 10000"),
        ("space=none", "space=none: allowed are recipe"),
        ("trial_seed=0", "trial_seed=0: trials have a seed of their own"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(tmp_path, override, told):
    done = program("tune", "pruner=snip", override, f"output_root={tmp_path}", *QUIET)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and told in done.stderr
