"""Methods of every timing and masking over heads and neurons, held to what holds for every method:
counts exact in units, zeros that stay (biases too), resumed as uninterrupted.
"""

import pytest
import torch

from seven_bench.pruning import MaskSet, reachable_count
from seven_bench.pruning.structure import structure_of
from seven_bench.testing import every_method as every
from seven_bench.testing import tiny
from seven_bench.training.checkpoint import Checkpoint

CASES = [
    ("snip", "bert", "head", "global"),  # before, one shot
    ("seven_pre", "vit", "head_neuron", "uniform"),  # before, gradually
    ("sparsegpt", "clip", "head_neuron", "uniform"),  # before, layer by layer, weights answer
    ("obert", "vit", "neuron", "global"),  # during, weights answer
    ("seven_dyn", "vit", "head_neuron", "global"),  # during, hard
    ("movement", "clip", "neuron", "uniform"),  # straight-through
    ("platon", "bert", "head_neuron", "global"),  # regrowth
    ("rigl", "vit", "neuron", "uniform"),  # rewiring
    ("lth", "bert", "neuron", "uniform"),  # rounds
    ("one_shot_after", "vit", "head", "global"),  # after
]
IDS = [f"{method}-{model}-{pattern}" for method, model, pattern, _ in CASES]


class Watched(every.WatchedModule):
    """Biases of removed units are zero at every batch's end and at every evaluation."""

    def check(self):
        if (biases := self.pruning.biases) is not None:  # a dense round below has none
            check_biases(self.model, self.pruning.masks, biases.structure)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.check()

    def validation_step(self, batch, batch_idx):
        self.check()
        super().validation_step(batch, batch_idx)


def check_biases(model, masks, structure):
    named = dict(model.named_parameters())
    for name, rows in structure.living_rows(masks).items():
        assert int(named[name].detach()[~rows].count_nonzero()) == 0, name


@pytest.mark.parametrize(("method", "model", "pattern", "distribution"), CASES, ids=IDS)
def test_invariants(method, model, pattern, distribution, tmp_path, monkeypatch):
    monkeypatch.setattr(every, "WatchedModule", Watched)
    config = every.composed(method, "adamw").changed(pattern=pattern, distribution=distribution)
    whole = every.train(config, model)
    plain = tiny.build(model, seed=9)
    structure = structure_of(plain, pattern)
    everything = MaskSet.ones(dict(whole.masks))
    assert whole.masks.kept == reachable_count(everything, every.target(config), structure)
    alive = structure.living_units(whole.masks)  # raises where a unit is in pieces
    if distribution == "uniform" and every.target(config) == 0.5:
        assert all(2 * int(alive[g.name].sum()) == g.units for g in structure.groups)
    plain.load_state_dict(whole.state, strict=True)
    every.assert_zero(dict(plain.named_parameters()), whole.masks)
    check_biases(plain, whole.masks, structure)

    path = tmp_path / "last.ckpt"
    with pytest.raises(every.Killed):
        every.train(config, model, checkpoint=Checkpoint(path, 1e9), kill_at=every.KILLED_AT)
    resumed = every.train(config, model, checkpoint=Checkpoint(path, 1e9))
    assert resumed.masks.hash() == whole.masks.hash()
    assert every.equal(resumed.state, whole.state) and every.equal(resumed.score, whole.score)
    assert resumed.metrics == whole.metrics


def test_biases_of_what_stays_are_trained():
    config = every.composed("snip", "adamw").changed(pattern="neuron", distribution="uniform")
    done = every.train(config, "bert")
    name = "bert.encoder.layer.0.intermediate.dense.bias"
    assert int(torch.count_nonzero(done.state[name])) == 16
