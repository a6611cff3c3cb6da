"""A run that two processes share holds one set of masks: each other's, and those of one process."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from seven_bench import ranks
from seven_bench.data.samplers import SeededBatches
from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet
from seven_bench.pruning.pruner import Update
from seven_bench.running import scoring
from seven_bench.running.run import run
from seven_bench.store.predictions import read_predictions
from seven_bench.store.run_folder import RunFolder
from tests.conftest import ROOT, SHORT

METHODS = (
    "snip", "seven_pre", "seven_dyn", "movement", "random", "platon", "rigl", "sparsegpt", "obert",
    "obert_one_shot", "seven_dyn:head_neuron", "snip:neuron",
)  # fmt: skip
# A handful of gradients leaves most of a block of the Fisher matrix to the damping: rounding of
# sums is amplified to a hundredth of what such a method moves weights by.
ROUNDING_COUNTS = ("obert", "obert_one_shot")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What every process of a world of two, and the process of a world of one, has found."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "tests.running.two_processes"]
    started = [
        subprocess.Popen([*command, str(rank), str(world), str(folder), *METHODS], cwd=ROOT)
        for world, rank in ((2, 0), (2, 1), (1, 0))
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    names = ("2-0", "2-1", "1-0")
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in names}


@pytest.mark.parametrize("method", METHODS)
def test_processes_hold_the_same_masks_after_every_update(found, method):
    first, second = found["2-0"][method], found["2-1"][method]
    assert len(first["updates"]) >= 1
    assert first["updates"] == second["updates"]
    assert all(torch.equal(first["state"][name], second["state"][name]) for name in first["state"])


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ROUNDING_COUNTS])
def test_two_processes_do_what_one_does_with_the_same_batches(found, method):
    two, one = found["2-0"][method], found["1-0"][method]
    assert len(two["updates"]) == len(one["updates"])
    differing = sum(int((m ^ one["masks"][n]).count_nonzero()) for n, m in two["masks"].items())
    assert differing <= 0.001 * sum(mask.numel() for mask in one["masks"].values())
    other = found["2-1"][method]["losses"]
    mean = [(mine + its) / 2 for mine, its in zip(two["losses"], other, strict=True)]
    assert mean == pytest.approx(one["losses"], rel=1e-3)


def test_weights_of_shares_add_up_to_the_mean_over_the_step():
    """Whatever the sizes: sum over processes and batches of weight * mean(share) is the mean."""
    values = torch.arange(60.0).square()
    for world, batch_size, accumulate in ((1, 7, 1), (2, 7, 1), (2, 8, 4), (3, 4, 4), (4, 59, 1)):
        total = -(-60 // batch_size)
        shares = [list(SeededBatches(60, batch_size, 1, rank, world)) for rank in range(world)]
        whole = list(SeededBatches(60, batch_size, 1))
        for first in range(0, total, accumulate):
            step = range(first, min(first + accumulate, total))
            mean = 0.0
            for index in step:
                for rank in range(world):
                    weight = SeededBatches(60, batch_size, 1, rank, world).weight(index, accumulate)
                    mean += weight * float(values[shares[rank][index]].mean()) / world / accumulate
            expected = values[[i for index in step for i in whole[index]]].mean()
            assert mean == pytest.approx(float(expected), rel=1e-6)


def test_a_run_shared_out_is_an_ordinary_run(make_config):
    config = make_config(
        "pruner=seven_dyn", "start=init", "trainer.devices=2", "trainer.accelerator=cpu",
        "trainer.max_epochs=2", *SHORT[2:],
    )  # fmt: skip
    record = run(config)
    assert record["params"]["kept"] == 19_661
    assert run(config) == record  # it is done
    alone = run(config.changed(trainer__devices=1))
    assert alone["run_id"] != record["run_id"]
    assert record["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], rel=1e-2)
    folder = Path(config.output_root) / "runs" / record["run_id"]
    left = {path.name for path in folder.iterdir()}
    assert left >= {"result.json", "metrics.csv", "masks.safetensors", "model.safetensors"}
    assert not left & {"last.ckpt", ".processes", ".error"}
    kept = read_predictions(folder / "predictions.safetensors")  # every process scores all of it
    assert len(kept) == record["metrics"]["test_examples"]
    assert kept.right.mean() == pytest.approx(record["metric"]["value"], abs=1e-6)


def test_the_error_of_a_process_is_the_error_of_the_run(make_config):
    config = make_config(
        "pruner=seven_dyn", "start=init", "trainer.devices=2", "trainer.accelerator=cpu",
        "trainer.max_epochs=1", "pruner.schedule.steps=9000it", *SHORT[2:],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="there are only 40 steps"):
        run(config)


def test_alone_nothing_is_asked_of_others():
    assert (ranks.world(), ranks.rank(), ranks.gathered(3)) == (1, 0, [3])
    tensors = {"a": torch.ones(2)}
    assert ranks.mean_(tensors) is tensors and torch.equal(tensors["a"], torch.ones(2))
    ranks.require_same("masks", "abc")


def test_a_checksum_sees_each_bit_and_each_place():
    tensors = {"a": torch.randn(70_000), "b": torch.zeros(2, 3)}
    found = {ranks.checksum(tensors)}
    assert found == {ranks.checksum({name: t.clone() for name, t in tensors.items()})}
    tensors["a"].view(torch.int32)[69_999] ^= 1
    found.add(ranks.checksum(tensors))
    tensors["a"][[0, 1]] = tensors["a"][[1, 0]]
    found.add(ranks.checksum(tensors))
    tensors["b"][0, 0] = -0.0
    found.add(ranks.checksum(tensors))
    assert len(found) == 4


def test_an_update_that_moves_weights_is_compared_with_them(monkeypatch):
    told = []
    monkeypatch.setattr(ranks, "world", lambda: 2)
    monkeypatch.setattr(ranks, "require_same", lambda what, value: told.append((what, value)))
    masks, weights = MaskSet({"a": torch.ones(2) > 0}), {"a": torch.tensor([1.0, 2.0])}
    scoring.same_update(Update(masks, masks))
    scoring.same_update(Update(masks, masks, weights))
    assert told == [
        ("masks", masks.hash()), ("masks", masks.hash()),
        ("weights after an update", ranks.checksum(weights)),
    ]  # fmt: skip


MOMENTS = (0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 1.5, 2.5, 4.0)  # seconds after the start
PARENT = """
import os, subprocess, sys, time
folder = sys.argv[1]
command = [sys.executable, "-m", "seven_bench.running.worker", folder, folder + "/meeting"]
for rank in "01":
    env = {**os.environ, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
    process = subprocess.Popen([*command, str(os.getpid())], env=env, start_new_session=True)
    print(process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_process_outlives_its_parent(moment, tmp_path, make_config):
    config = make_config("start=init", "trainer.devices=2", "trainer.accelerator=cpu", *SHORT[2:])
    RunFolder(tmp_path).write_config(config.plain())
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    started = [int(parent.stdout.readline()) for _ in range(2)]
    time.sleep(moment)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 5
    while left := [process for process in started if psutil.pid_exists(process)]:
        if all(psutil.Process(process).status() == psutil.STATUS_ZOMBIE for process in left):
            break  # nobody has asked for its exit code
        assert time.monotonic() < end, f"{left} are left"
        time.sleep(0.05)


def test_a_shared_run_passes_a_signal_on_and_keeps_its_work(tmp_path):
    arguments = (
        "pruner=seven_dyn", "start=init", "trainer.devices=2", "trainer.accelerator=cpu",
        "trainer.max_epochs=500", "trainer.checkpoint_every=0.2", f"output_root={tmp_path}",
        *SHORT[2:],
    )  # fmt: skip
    command = [sys.executable, "-m", "seven_bench", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    end = time.monotonic() + 120
    while not [*tmp_path.rglob("last.ckpt")]:
        assert time.monotonic() < end, "training does not begin"
        time.sleep(0.1)
    children = psutil.Process(process.pid).children()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.splitlines()[-1].startswith("interrupted by SIGTERM")
    assert not any(child.is_running() for child in children)
    (status,) = tmp_path.rglob("status.json")
    assert RunFolder(status.parent).state() == "interrupted"
    assert [*tmp_path.rglob("last.ckpt")]
