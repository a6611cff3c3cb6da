"""Whole runs of the program on a GPU, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import program

QUICK = (
    "task=digits",
    "logger=none",
    "progress=false",
    "trainer.accelerator=gpu",
    "trainer.max_epochs=2",
)


def record_of(root: Path, pruner: str) -> dict:
    (path,) = (root / "runs").glob(f"digits/*/{pruner}/*/*/result.json")
    return json.loads(path.read_text())


def run(root: Path, *more: str) -> None:
    done = program(*QUICK, f"output_root={root}", *more)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_from_a_dense_start_to_a_record_twice(tmp_path, precision):
    """A dense start, SEVEN during training; a second root gives the same masks and metrics."""
    records = []
    for root in (tmp_path / "one", tmp_path / "two"):
        given = ["pruner=seven_dyn", "sparsity=0.9", "start.train.max_epochs=2"]
        run(root, *given, f"trainer.precision={precision}")
        records.append(record_of(root, "seven_dyn"))
    one, two = records
    total = one["params"]["prunable"]
    assert one["params"]["kept"] == total - round(0.9 * total)
    assert one["environment"]["hardware"] == torch.cuda.get_device_name()
    assert one["cost"]["peak_memory_bytes"] > 0
    assert one["metric"]["value"] > 0.3  # chance is 0.1
    assert one["mask_hash"] == two["mask_hash"] and one["metrics"] == two["metrics"]


@pytest.mark.parametrize("pruner", ["grasp", "wanda", "seven_pre"])
def test_before_training(tmp_path, pruner):
    run(tmp_path, f"pruner={pruner}", "sparsity=0.8", "start=init")
    found = record_of(tmp_path, pruner)
    total = found["params"]["prunable"]
    assert found["params"]["kept"] == total - round(0.8 * total)


def test_the_cpu_of_a_machine_with_a_gpu(tmp_path):
    run(tmp_path, "pruner=magnitude", "sparsity=0.5", "start=init", "trainer.accelerator=cpu")
    hardware = record_of(tmp_path, "magnitude")["environment"]["hardware"]
    assert hardware != torch.cuda.get_device_name()
