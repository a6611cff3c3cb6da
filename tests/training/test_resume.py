"""A run that is killed goes on where it stopped, and nobody can tell from what it leaves."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seven_bench.pruning import MaskSet
from seven_bench.running.run import run
from seven_bench.settings.identity import identify
from seven_bench.store.files import CHECKPOINT
from seven_bench.testing.every_method import Killed, composed, equal, train
from seven_bench.training import checkpoint as module
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.vision import VisionModule
from tests.conftest import ROOT, SHORT

QUICK = ("start=init", "trainer.max_epochs=3", "trainer.checkpoint_every=1e9", *SHORT[2:])
AN_EPOCH = 40  # batches of 32 of the digits


@pytest.fixture
def kill_at(monkeypatch):
    """A run then ends just before it trains on the batch of this number (from 0), and has a
    checkpoint of that moment.
    """

    def set_at(number: int | None) -> None:
        training_step = VisionModule.__mro__[1].training_step

        def step(self, batch, batch_idx):
            now = self.trainer.current_epoch * AN_EPOCH + batch_idx
            if now == number:
                raise Killed
            if number is not None and now == number - 1:
                next(c for c in self.trainer.callbacks if isinstance(c, Checkpoint)).every = 0
            return training_step(self, batch, batch_idx)

        monkeypatch.setattr(VisionModule, "training_step", step)

    return set_at


def folder_of(config) -> Path:
    return identify(config).folder(config.output_root)


def left(config) -> tuple:
    """All that a run leaves, but for times."""
    folder = folder_of(config)
    record = run(config)
    cost = record["cost"]["example_equivalents"]
    return (
        record["mask_hash"],
        record["metrics"],
        cost,
        {n: v.numpy().tobytes() for n, v in load_file(folder / "model.safetensors").items()},
        (folder / "predictions.safetensors").read_bytes(),
        (folder / "metrics.csv").read_text(),
    )


def check_killed_equals_whole(make_config, kill_at, folder, *given):
    """A run of these settings, killed before its batch 57 and taken up again, leaves the same."""
    whole = left(make_config(*given, f"output_root={folder}/whole"))
    config = make_config(*given, f"output_root={folder}/killed")
    kill_at(57)
    with pytest.raises(Killed):
        run(config)
    kill_at(None)
    assert left(config) == whole


@pytest.mark.parametrize("method", ["seven_dyn", "movement", "platon", "snip"])
def test_killed_anywhere_equals_uninterrupted(make_config, kill_at, method, tmp_path):
    given = (f"pruner={method}", *QUICK)
    whole = left(make_config(*given, f"output_root={tmp_path}/whole"))
    config = make_config(*given, f"output_root={tmp_path}/killed")
    # in the middle, before the first and the last batch of an epoch, and again after going on
    for number in (17, AN_EPOCH, 2 * AN_EPOCH - 1, 2 * AN_EPOCH + 9):
        kill_at(number)
        with pytest.raises(Killed):
            run(config)
        assert (folder_of(config) / CHECKPOINT).is_file()
    kill_at(None)
    assert left(config) == whole
    assert not list(folder_of(config).glob("last.ckpt*"))


def test_sigkill_of_the_process(make_config, tmp_path):
    """The process has no time to do anything about it; the same command goes on."""
    given = ("pruner=seven_dyn", "start=init", "trainer.max_epochs=8", *SHORT[2:])
    whole = left(make_config(*given, f"output_root={tmp_path}/whole"))
    config = make_config(*given, f"output_root={tmp_path}/killed", "trainer.checkpoint_every=0.2")
    command = [sys.executable, "-m", "seven_bench", *given, "trainer.checkpoint_every=0.2"]
    command.append(f"output_root={tmp_path}/killed")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    checkpoint = folder_of(config) / CHECKPOINT
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.is_file() and not (folder_of(config) / "result.json").is_file()
    assert left(config) == whole


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "another file", "empty"])
def test_a_damaged_checkpoint_is_said_and_training_starts_anew(
    make_config, kill_at, damage, tmp_path, caplog
):
    given = ("pruner=seven_dyn", "trainer.max_epochs=1", *QUICK[:1], *QUICK[2:])
    whole = left(make_config(*given, f"output_root={tmp_path}/whole"))
    config = make_config(*given, f"output_root={tmp_path}/killed")
    kill_at(20)
    with pytest.raises(Killed):
        run(config)
    path = folder_of(config) / CHECKPOINT
    content = path.read_bytes()
    match damage:
        case "cut off":
            path.write_bytes(content[: len(content) // 2])
        case "overwritten":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + b"\xff" * 64 + content[middle + 64 :])
        case "another file":
            torch.save({"state_dict": {}}, path)
        case _:
            path.write_bytes(b"")
    kill_at(None)
    assert left(config) == whole
    assert "cannot be read" in caplog.text and "training starts anew" in caplog.text


def test_a_checkpoint_holds_effective_weights_under_plain_names_and_loads_safely(
    make_config, kill_at
):
    for method in ("platon", "movement", "seven_dyn"):
        config = make_config(f"pruner={method}", *QUICK)
        kill_at(AN_EPOCH + 19)  # between two updates
        with pytest.raises(Killed):
            run(config)
        found = torch.load(folder_of(config) / CHECKPOINT, weights_only=True)
        state = found["state_dict"]
        saved = found["callbacks"]["PruningCallback"]
        masks = {k.removeprefix("mask/"): v for k, v in saved.items() if k.startswith("mask/")}
        assert 0 < MaskSet(masks).sparsity < 0.9
        for name, mask in masks.items():
            assert int(state[f"model.{name}"][~mask].count_nonzero()) == 0
        kept = [name for name in saved if name.startswith("dense/")]
        assert len(kept) == (0 if method == "seven_dyn" else len(masks))


def test_what_was_scored_before_training_is_not_scored_again(make_config, kill_at, monkeypatch):
    config = make_config("pruner=seven_pre", *QUICK)
    kill_at(3)
    with pytest.raises(Killed):
        run(config)
    kill_at(None)
    monkeypatch.setattr("seven_bench.running.prune_and_train.score_and_prune", None)
    record = run(config)
    assert record["cost"]["example_equivalents"]["scoring"] == 3 * 3840
    assert record["cost"]["seconds"]["scoring"] > 0


@pytest.mark.parametrize("kill_at", [8, 9, 10, 12])
def test_with_accumulation_and_an_odd_last_step(kill_at, tmp_path):
    """8 batches an epoch in steps of 3: a checkpoint never falls between the batches of a step."""
    config = composed("seven_dyn", "adamw")
    config = config.changed(trainer__accumulate=3)
    whole = train(config, "bert")
    path = tmp_path / CHECKPOINT
    with pytest.raises(Killed):
        train(config, "bert", checkpoint=Checkpoint(path, 0.0), kill_at=kill_at)
    resumed = train(config, "bert", checkpoint=Checkpoint(path, 0.0))
    assert resumed.masks.hash() == whole.masks.hash() and equal(resumed.state, whole.state)


def test_the_interval_is_kept_and_does_not_name_the_run(make_config, monkeypatch):
    config = make_config("pruner=magnitude", *QUICK)
    other = config.changed(trainer__checkpoint_every=1)
    assert identify(config) == identify(other)
    monkeypatch.setattr(Checkpoint, "_write", None)  # never called within so long an interval
    run(config)


def test_a_copy_of_a_checkpoint_is_read_whole(tmp_path):
    path = tmp_path / "a.ckpt"
    assert module.readable(path) is None
    config = composed("seven_dyn", "sgd")
    with pytest.raises(Killed):
        train(config, "vit", checkpoint=Checkpoint(path, 0.0), kill_at=5)
    shutil.copy(path, tmp_path / "b.ckpt")
    found = module.readable(tmp_path / "b.ckpt")
    assert found is not None and found["global_step"] == 5
