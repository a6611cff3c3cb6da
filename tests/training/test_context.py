"""Where a training computes: a GPU that is not there is said before any work."""

import pytest
import torch

from seven_bench.errors import ConfigError
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
