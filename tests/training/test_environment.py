"""What a run switches in its process is as before when it has ended."""

import os

import pytest

from seven_bench.training.environment import COMPILE_SWITCH, uncompiled


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
