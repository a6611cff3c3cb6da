"""Where a training computes: a GPU that is not there is said before any work."""

from pathlib import Path

import pytest
import torch

from seven_bench.errors import ConfigError
from seven_bench.running.run import run
from seven_bench.training.context import Device


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_asked_for_where_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert Device("auto").accelerator == "auto" and Device("cpu").here() == torch.device("cpu")
    if there:
        assert Device("gpu").accelerator == "gpu"
        return
    with pytest.raises(
        ConfigError, match=r"^trainer.accelerator=gpu: torch finds no GPU.*auto, cpu$"
    ):
        Device("gpu")


def test_it_is_said_before_the_dense_start_is_trained(monkeypatch, make_config):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    settings = make_config("start=dense", "trainer.accelerator=gpu")
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        run(settings)
    assert not list(Path(settings.output_root).rglob("config.yaml"))
