"""What is answered on a scored set, from batches to the data's own order."""

import logging

import numpy as np
import pytest
import torch

from seven_bench.running.run import run
from seven_bench.settings.identity import identify
from seven_bench.store.predictions import Predictions, read_predictions
from seven_bench.training.answers import Answers
from seven_bench.training.fit import BestEpoch
from seven_bench.training.vision import VisionModule
from tests.conftest import SHORT

QUICK = ("pruner=magnitude", "sparsity=0.9", "start=init", "trainer.max_epochs=1", *SHORT[2:])


def scores(*values):
    return Predictions.of_scores(values, values, "")


def test_answers_come_back_in_the_data_s_own_order():
    answers = Answers()
    answers.add(scores(4, 0, 3))
    answers.add(scores(2, 1))
    kept = answers.in_order([[4, 0, 3], [2, 1]], "five")
    assert kept.columns["predicted"].tolist() == [0, 1, 2, 3, 4] and kept.items == "five"


def test_only_what_the_main_metric_is_taken_over_is_kept():
    answers = Answers()
    answers.add(scores(4, 0, 3), torch.tensor([False, True, True]))
    answers.add(scores(2, 1), torch.tensor([True, False]))
    kept = answers.in_order([[4, 0, 3], [2, 1]], "three of five")
    assert kept.columns["predicted"].tolist() == [0, 2, 3]


def test_a_batch_too_few_and_a_fault_are_said():
    answers = Answers()
    answers.add(scores(0, 1))
    with pytest.raises(ValueError, match="2 of 3 examples were answered"):
        answers.in_order([[0, 1], [2]], "three")
    answers.fault = "not finite"
    with pytest.raises(ValueError, match="not finite"):
        answers.in_order([[0, 1]], "two")


def test_the_chosen_epoch_is_the_one_that_is_kept(make_config, monkeypatch):
    """Of two epochs the first is made the best: `select=best` keeps its answers, `last` not."""
    take = BestEpoch.on_validation_end

    def first_alone(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            take(self, trainer, pl_module)

    monkeypatch.setattr(BestEpoch, "on_validation_end", first_alone)
    kept = {}
    for select in ("best", "last"):
        config = make_config(*QUICK[:3], "trainer.max_epochs=2", f"select={select}", *SHORT[2:])
        metrics = run(config)["metrics"]
        assert (metrics["best_epoch"], metrics["last_epoch"]) == (1, 2)
        folder = identify(config).folder(config.output_root)
        kept[select] = read_predictions(folder / "predictions.safetensors").right.mean()
        assert kept[select] == pytest.approx(metrics[f"accuracy_{select}"], abs=1e-6)
    assert kept["best"] != kept["last"]


def test_answers_that_are_not_finite_are_not_kept_and_the_run_is_whole(
    make_config, monkeypatch, caplog
):
    logits = VisionModule.logits

    def broken(self, model, batch):
        found = logits(self, model, batch)
        return found if model.training else torch.full_like(found, torch.nan)

    monkeypatch.setattr(VisionModule, "logits", broken)
    config = make_config(*QUICK)
    with caplog.at_level(logging.WARNING):
        record = run(config)
    assert "predictions are not kept: probabilities that are not finite" in caplog.text
    assert "predictions.safetensors" not in record["integrity"]["files"]
    assert run(config) == record  # done, and not damaged


def test_a_tie_goes_to_the_class_that_the_metric_takes():
    module = VisionModule(torch.nn.Identity(), None, 4)
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 1e-7, 0.0]])
    kept = module.answered(logits, logits, torch.tensor([1, 0, 2]))
    assert kept.columns["predicted"].tolist() == logits.argmax(-1).tolist() == [1, 0, 2]
    assert np.all(kept.margin[:2] == 0)
