"""Which epoch is the best, and which one a run measures."""

from types import SimpleNamespace

import pytest
import torch

from seven_bench.settings.identity import dense_start
from seven_bench.training.fit import BestEpoch


def best_of(values, reached, higher_is_better=True):
    """The best epoch of a run with these validation values, from the one where masks are final."""
    context = SimpleNamespace(metric="accuracy", higher_is_better=higher_is_better)
    pruning = SimpleNamespace(pruner=SimpleNamespace(reached=False), masks={})
    callback = BestEpoch(context, pruning)
    for epoch, value in enumerate(values):
        pruning.pruner.reached = epoch + 1 >= reached
        module = SimpleNamespace(plain_state=lambda epoch=epoch: {"w": torch.tensor(epoch + 1)})
        metrics = {"validation/accuracy": torch.tensor(value)}
        trainer = SimpleNamespace(
            sanity_checking=False,
            callback_metrics=metrics,
            current_epoch=epoch,
            global_step=10 * (epoch + 1),
        )
        callback.on_validation_end(trainer, module)
    assert callback.state["w"] == callback.epoch
    return callback.epoch


@pytest.mark.parametrize(
    ("values", "reached", "epoch"),
    [
        ([0.5, 0.7, 0.7, 0.6], 1, 3),  # of equal ones the latest
        ([0.9, 0.9, 0.9, 0.9], 1, 4),
        ([0.9, 0.7, 0.8, 0.6], 2, 3),  # not before masks are final
        ([0.5, float("nan"), 0.4], 1, 1),
    ],
)
def test_the_best_epoch_is_the_latest_of_equal_ones(values, reached, epoch):
    assert best_of(values, reached) == epoch


def test_lower_may_be_better():
    assert best_of([0.5, 0.3, 0.3, 0.4], 1, higher_is_better=False) == 3


def test_the_last_epoch_is_measured_of_the_start_too(make_config):
    settings = make_config()
    assert (settings.select, dense_start(settings).select) == ("last", "last")
    assert dense_start(make_config("select=best")).select == "best"
