"""A method that moves weights at an update, as second-order methods do: at every timing, under
every way of masking, and through an interruption.

What `Spread` removes from a row it adds to what lives there, in equal parts: the sums of rows stay.
"""

import itertools
from pathlib import Path

import pytest
import torch

from seven_bench.baselines.magnitude import MagnitudeScore
from seven_bench.pruning import Cubic, MaskSet, OneShot, prunable_parameters
from seven_bench.pruning.calibration import prune_before
from seven_bench.pruning.pruner import Method, Pruner
from seven_bench.pruning.suppliers import input_sums
from seven_bench.running import scoring
from seven_bench.testing import tiny
from seven_bench.testing.every_method import KILLED_AT, Killed, assert_zero, composed, equal, train
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import Recipe
from seven_bench.training.fit import fit
from seven_bench.training.pruning_callback import PruningCallback
from tests.training.test_golden import COLUMNS, MSE, NAME, ROWS, Line, LineModule

MASKINGS = ("hard", "rewire", "regrow", "straight_through")


class Spread(MagnitudeScore):
    """|w|; what goes is spread over what stays in its row."""

    def update_weights(self, params, masks, new_masks):
        return {name: spread(weight.detach(), new_masks[name]) for name, weight in params.items()}


def spread(weight, mask):
    lost = (weight * ~mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return (weight + lost) * mask


def sums(weight, mask):
    """The sums of the rows in which something lives."""
    return weight.sum(1)[mask.any(1)]


@pytest.mark.parametrize("schedule", [OneShot(), Cubic(), Cubic(every=2)], ids=str)
def test_before_training(schedule):
    model = tiny.start("vit")
    params = prunable_parameters(model)
    start = {name: p.detach().clone() for name, p in params.items()}
    method = Method(Spread(), schedule, 0.5)
    pruner = Pruner(method, schedule.plan(6, 6), params, torch.Generator())
    masks = prune_before(pruner, model, params, lambda batch: None, [None] * 6)
    moved = 0
    for name, mask in masks.items():
        assert int(params[name][~mask].count_nonzero()) == 0
        torch.testing.assert_close(sums(params[name], mask), sums(start[name], mask))
        moved += int((params[name] != start[name])[mask].count_nonzero())
    assert moved > 0.9 * masks.kept


def test_blocks_see_the_new_weights_of_the_blocks_before_them():
    """Scores on activations prune block after block; the second block's inputs come from the first
    as the update leaves it.
    """

    class Watching(Spread):
        needs = frozenset({"activations"})

        def reset(self, params, generator=None):
            self.seen = {}

        def observe(self, seen):
            self.seen.update(seen.activations)

    model, batch = tiny.start("vit"), tiny.tiny_data(0).example_batch(1)
    params, score = prunable_parameters(model), Watching()

    def loss(batch):
        return model(batch["pixel_values"]).square().mean()

    pruner = Pruner(Method(score, OneShot(), 0.5), OneShot().plan(1, 1), params, torch.Generator())
    prune_before(pruner, model, params, loss, [batch])
    after = {}  # of the pruned model: only its last block was still whole when it was looked at
    context = type("Context", (), {"params": params, "model": model.eval()})
    squared = lambda inputs: inputs.square().sum(0)  # noqa: E731
    with torch.no_grad(), input_sums(context, list(params), batch, squared) as squares:
        loss(batch)
        after.update(squares)
    name = "blocks.1.attn.qkv.weight"
    torch.testing.assert_close(score.seen[name], after[name])


def trained(masking, optimizer="sgd", lr=0.0):
    """The one-layer problem; with a learning rate of 0 nothing but updates moves weights."""
    reset_process(0, 1, True)
    recipe = Recipe(8, lr, 32, optimizer=optimizer, momentum=0.9)
    module, data = LineModule(recipe), Line(seed=0, batch_size=32, files={"": Path()})
    data.setup()
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    options = {"momentum": 0.9} if optimizer == "sgd" else {"weight_decay": 0.1}
    weights = module.model.parameters()
    module.configure_optimizers = lambda: kinds[optimizer](weights, lr=lr, **options)
    params = {NAME: module.model.layer.weight}
    schedule = Cubic(start="1it", steps="5it")
    method = Method(Spread(), schedule, 0.5, masking=masking)
    pruner = Pruner(method, schedule.plan(8, 1), params, torch.Generator())
    callback = PruningCallback(params, pruner)
    history = [(params[NAME].detach().clone(), callback.masks[NAME])]
    module.on_train_batch_end = lambda *_: history.append(
        (params[NAME].detach().clone(), callback.masks[NAME])
    )
    fit(module, data, callback, MSE)
    return history, callback, module.trainer.optimizers[0]


@pytest.mark.parametrize("masking", MASKINGS)
def test_during_training_nothing_but_updates_moves(masking):
    history, callback, _ = trained(masking)
    start = history[0][0]
    assert callback.masks.kept == ROWS * COLUMNS - round(0.5 * ROWS * COLUMNS)
    assert [int(mask.sum()) for _, mask in history] == [48, 48, 36, 29, 26, 24, 24, 24, 24]
    expected = start
    for (_, before), (weight, mask) in itertools.pairwise(history):
        expected = spread(expected, mask) if not torch.equal(mask, before) else expected
        assert torch.equal(weight, expected), "not what the update gave"
        assert int(weight[~mask].count_nonzero()) == 0
    torch.testing.assert_close(sums(*history[-1]), sums(start, history[-1][1]))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("masking", ["hard", "rewire"])
def test_moments_of_what_an_update_removes_are_cleared(masking, optimizer):
    history, callback, used = trained(masking, optimizer, lr=0.01)
    mask = callback.masks[NAME]
    moments = [v for v in used.state[callback.params[NAME]].values() if v.shape == mask.shape]
    assert len(moments) == (1 if optimizer == "sgd" else 2)
    for value in moments:
        assert int(value[~mask].count_nonzero()) == 0 and int(value[mask].count_nonzero()) > 0
    assert not torch.equal(history[-1][0], history[-2][0]), "training goes on with the new weights"


@pytest.mark.parametrize(
    "method",
    ["magnitude", "force", "gmp", "rigl", "platon", "movement", "lth", "lrr", "one_shot_after"],
)
def test_a_run_of_every_timing_and_through_an_interruption(method, monkeypatch, tmp_path):
    make_method, updates = scoring.make_method, []

    class Counted(Spread):
        needs = make_method(composed(method, "adamw")).score.needs

        def update_weights(self, params, masks, new_masks):
            updates.append(new_masks)
            return super().update_weights(params, masks, new_masks)

    def spreading(config):
        made = make_method(config)
        return type(made)(**{**vars(made), "score": Counted()})

    plain = train(composed(method, "adamw"), "vit")
    monkeypatch.setattr(scoring, "make_method", spreading)
    config = composed(method, "adamw")
    whole = train(config, "vit")
    rewound = method == "lth"  # its weights are those of the start again, whatever an update did
    assert updates and equal(plain.state, whole.state) == rewound
    assert_zero({n: whole.state[n] for n in whole.masks}, whole.masks)
    with pytest.raises(Killed):
        train(config, "vit", checkpoint=Checkpoint(tmp_path / "last.ckpt", 1e9), kill_at=KILLED_AT)
    resumed = train(config, "vit", checkpoint=Checkpoint(tmp_path / "last.ckpt", 1e9))
    assert MaskSet(resumed.masks).hash() == whole.masks.hash()
    assert equal(resumed.state, whole.state) and resumed.metrics == whole.metrics
