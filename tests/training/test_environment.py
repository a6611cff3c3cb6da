"""What a run switches in its process is as before when it has ended."""

import gc
import itertools
import os
import weakref

import pytest
from torch import nn

from seven_bench.training import environment
from seven_bench.training.environment import COMPILE_SWITCH, reset_process, uncompiled


@pytest.mark.parametrize("before", [None, "0"])
def test_the_compiler_is_off_for_one_run_alone(monkeypatch, before):
    monkeypatch.delenv(COMPILE_SWITCH, raising=False)
    if before is not None:
        monkeypatch.setenv(COMPILE_SWITCH, before)
    with uncompiled(False):
        assert os.environ.get(COMPILE_SWITCH) == before
    with uncompiled(True):
        assert os.environ[COMPILE_SWITCH] == (before or "1"), "what the user says stands"
    assert os.environ.get(COMPILE_SWITCH) == before


def test_a_run_frees_what_earlier_ones_left(monkeypatch):
    """A model in a circle of references, as a trainer's is, which Python would keep for long."""
    monkeypatch.setattr(environment, "_begun", itertools.count())
    frozen = gc.get_freeze_count()
    gc.disable()
    try:
        for earlier in range(3):
            model = nn.Linear(2, 2)
            model.trainer = {"model": model}
            alive = weakref.ref(model)
            del model
            reset_process(0, 1, deterministic=True)
            assert (alive() is None) == (earlier > 0), "before the first run there is nothing"
    finally:
        gc.enable()
        if not frozen:
            gc.unfreeze()
