"""Every method of conf/pruner x tiny ViT, BERT, CLIP x SGD with momentum, AdamW with weight decay,
held to what `python -m seven_bench.testing` holds a method from outside to.
"""

from pathlib import Path

import pytest

from seven_bench.pruning import MaskSet
from seven_bench.settings.conf import conf_dir
from seven_bench.testing import every_method as every
from seven_bench.testing import tiny
from seven_bench.testing.__main__ import main

METHODS = every.methods()


# of the module, so that all tests of one method on one model follow each other: they are held to
# the same run, which a second process of tests would do again


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return request.param


@pytest.fixture(scope="module", params=tiny.MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module", params=every.OPTIMIZERS)
def optimizer(request):
    return request.param


def test_count_zeros_names_and_loss(method, model, optimizer, tmp_path):
    every.check_count(method, model, optimizer, tmp_path)


def test_resumed_equals_uninterrupted(method, model, optimizer, tmp_path):
    every.check_resumed(method, model, optimizer, tmp_path)


def test_sparsity_zero_is_dense(method, model, optimizer, tmp_path):
    every.check_zero_sparsity(method, model, optimizer, tmp_path)


def test_the_seed_decides(method, model, tmp_path):
    every.check_seed(method, model, "adamw", tmp_path)


def test_methods_are_found_by_their_files():
    assert {"dense", "snip", "seven_pre", "seven_dyn", "platon", "movement", "lth"} <= {*METHODS}
    assert all((Path(conf_dir()) / "pruner" / f"{name}.yaml").is_file() for name in METHODS)
    assert "dense_narrow" not in METHODS


def test_what_does_not_hold_is_an_error(tmp_path, monkeypatch):
    """Each check notices what it is for, here in runs that were tampered with."""
    found, real = every.train(every.composed("magnitude", "adamw"), "vit"), every.reference

    def tamper(**changes):
        odd = every.Done(**{**vars(found), **changes})
        found_or_dense = lambda name, *rest: odd if name != "dense" else real(name, *rest)  # noqa: E731
        monkeypatch.setattr(every, "reference", found_or_dense)

    def noticed(check, told, method="magnitude"):
        with pytest.raises(AssertionError, match=told):
            check(method, "vit", "adamw", tmp_path)

    tamper(masks=MaskSet.ones(dict(found.masks)))
    noticed(every.check_count, "weights are kept, not")
    tamper(state={name: value + 1 for name, value in found.state.items()})
    noticed(every.check_count, "is not zero")
    tamper(losses=[0.0, 9.0])
    noticed(every.check_count, "the loss went from")
    tamper(best={})
    noticed(every.check_resumed, "its best weights are others")
    monkeypatch.setattr(every, "_static", lambda _: True)
    noticed(every.check_seed, "masks of another seed are others", method="random")
    monkeypatch.setattr(every, "reference", lambda *_: every.Done(**{**vars(found), "state": {}}))
    noticed(every.check_zero_sparsity, "it is not the dense run")


def test_the_program_says_which_does_not_hold(capsys, monkeypatch):
    def fails(*_):
        raise AssertionError("7 of 8")

    monkeypatch.setattr(every, "CHECKS", {"one": lambda *_: None, "two": fails})
    assert main(["snip", "--model", "vit", "--optimizer", "sgd"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "one" in lines[0] and lines[0].endswith("holds")
    assert lines[1].endswith("FAILS: AssertionError: 7 of 8")
    assert main(["snipp"]) == 1
    assert (
        "error: snipp: no such method; known are block_movement, dense" in capsys.readouterr().err
    )
