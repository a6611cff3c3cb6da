"""What is imported for good is no work of the garbage collector."""

import gc
import sys

import pytest

from seven_bench.running.imports import for_good


@pytest.fixture
def enabled():
    gc.enable()
    yield
    gc.unfreeze()  # of this test, and of the collection of all tests: tests may look at either
    gc.freeze()
    gc.enable()


def test_objects_made_within_are_never_looked_at_again(enabled):
    before = gc.get_freeze_count()
    with for_good("no.such.module"):
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_a_second_import_freezes_nothing(enabled):
    before = gc.get_freeze_count()
    with for_good("seven_bench.running.imports"):
        assert gc.isenabled()
    assert gc.get_freeze_count() <= before and "seven_bench.running.imports" in sys.modules


def test_the_collector_goes_on_after_an_import_that_fails(enabled):
    with pytest.raises(ImportError), for_good("no.such.module"):
        import no.such.module  # noqa: F401
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(enabled):
    gc.disable()
    with for_good("no.such.module"):
        pass
    assert not gc.isenabled()
