"""`seven_bench.keep_pruned`: zeros in a loop of one's own, and the same as Lightning's Trainer."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from seven_bench import keep_pruned, prune
from seven_bench.errors import ConfigError
from seven_bench.settings.conf import choice, names_of
from seven_bench.testing import tiny

DURING = [name for name in names_of("pruner") if choice(f"pruner/{name}")["timing"] == "during"]
OPTIMIZERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1),
}
STEPS, CLIP = 16, 1.0


def batches():
    train = tiny.tiny_data(0).splits["train"].columns
    images, labels = train["pixel_values"], train["labels"]
    return [(images[i : i + 4], labels[i : i + 4]) for i in range(0, 4 * STEPS, 4) if i < 60] * 2


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def often(method: str) -> dict | None:
    """Its schedule with updates every second step, so that 16 steps have some."""
    return {"every": 2} if choice(f"pruner/{method}")["schedule"].get("every", 1) > 2 else None


def assert_zero(model, masks):
    for name, mask in masks.items():
        assert int(model.get_parameter(name).detach()[~mask].count_nonzero()) == 0, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_prune_removed_stays_zero(optimizer):
    model = tiny.start("vit")
    masks, _ = prune(model, batches(), loss, "snip", 0.8)
    chosen = OPTIMIZERS[optimizer](model.parameters())
    keeper = keep_pruned(model, chosen, masks)
    before = copy.deepcopy(model.state_dict())
    for batch in batches()[:5]:
        chosen.zero_grad()
        loss(model, batch).backward()
        chosen.step()
        assert_zero(model, masks)
    assert not torch.equal(before["head.weight"], model.head.weight)
    assert keeper.masks.hash() == masks.hash()
    keeper.remove()
    loss(model, batch).backward()
    chosen.step()  # momentum and decay are free again, gradients too
    assert any(bool(model.get_parameter(n).detach()[~m].any()) for n, m in masks.items())


class Plain(pl.LightningModule):
    """A module that knows nothing of pruning."""

    def __init__(self, model, optimizer):
        super().__init__()
        self.model, self.optimizer = model, optimizer

    def training_step(self, batch, index):
        return loss(self.model, batch)

    def configure_optimizers(self):
        return OPTIMIZERS[self.optimizer](self.model.parameters())


def by_trainer(method: str, optimizer: str):
    model = tiny.start("vit")
    kept = keep_pruned(
        model, method=method, sparsity=0.5, steps=STEPS, schedule=often(method), seed=2
    )
    trainer = pl.Trainer(
        max_steps=STEPS, accelerator="cpu", gradient_clip_val=CLIP, callbacks=[kept], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Plain(model, optimizer), DataLoader(batches(), batch_size=None))
    return model, kept


def by_hand(method: str, optimizer: str, killed_at: int | None = None):
    """The same loop without Lightning; where it is killed, all goes on from what was saved."""
    model = tiny.start("vit")

    def begin(model):
        chosen = OPTIMIZERS[optimizer](model.parameters())
        return chosen, keep_pruned(
            model, chosen, method=method, sparsity=0.5, steps=STEPS, schedule=often(method), seed=2
        )

    chosen, keeper = begin(model)
    for step, batch in enumerate(batches()[:STEPS]):
        if step == killed_at:
            saved = {"model": model, "optimizer": chosen, "keeper": keeper}
            saved = copy.deepcopy({name: part.state_dict() for name, part in saved.items()})
            model = tiny.start("vit")
            chosen, keeper = begin(model)
            model.load_state_dict(saved["model"])
            chosen.load_state_dict(saved["optimizer"])
            keeper.load_state_dict(saved["keeper"])
        chosen.zero_grad()
        loss(model, batch).backward()
        keeper.before_step()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        chosen.step()
        with keeper.evaluating():
            assert_zero(model, keeper.masks)
    keeper.check_finished()
    return model, keeper


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders
@pytest.mark.parametrize("method", DURING)
def test_a_plain_loop_equals_the_trainers_bit_for_bit(method):
    optimizer = "adamw" if DURING.index(method) % 2 else "sgd"
    model, keeper = by_hand(method, optimizer)
    wanted, callback = by_trainer(method, optimizer)
    assert keeper.masks.hash() == callback.masks.hash()
    assert keeper.masks.kept < keeper.masks.total
    for name, value in wanted.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("method", ["seven_dyn", "platon", "movement", "rigl", "gmp"])
def test_resumed_equals_uninterrupted(method):
    model, keeper = by_hand(method, "adamw")
    resumed, again = by_hand(method, "adamw", killed_at=7)
    assert again.masks.hash() == keeper.masks.hash()
    assert all(torch.equal(v, resumed.state_dict()[n]) for n, v in model.state_dict().items())


def test_a_state_loads_with_weights_only(tmp_path):
    _, keeper = by_hand("platon", "sgd")
    torch.save(keeper.state_dict(), tmp_path / "keeper.pt")
    loaded = torch.load(tmp_path / "keeper.pt", weights_only=True)
    assert loaded.keys() == keeper.state_dict().keys()


def test_a_step_that_a_scaler_skips_changes_nothing():
    """The gradient overflows at first; by hand: the scaler halves its scale until it does not."""
    model, scaler = tiny.start("vit"), torch.amp.GradScaler("cpu", init_scale=2.0**127)
    chosen = OPTIMIZERS["sgd"](model.parameters())
    keeper = keep_pruned(model, chosen, method="movement", sparsity=0.5, steps=30)
    before = copy.deepcopy(model.state_dict())
    for count, batch in enumerate(batches()[:12], 1):
        chosen.zero_grad()
        scaler.scale(loss(model, batch)).backward()
        scaler.unscale_(chosen)
        keeper.before_step()
        scaler.step(chosen)
        scaler.update()
        if keeper.steps.skipped_steps == count:
            assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert 0 < keeper.steps.skipped_steps < 12
    assert keeper.pruner.step == 12 - keeper.steps.skipped_steps


@pytest.mark.parametrize("unscaled", [False, True])
def test_a_fused_optimizer_skips_its_scalers_steps_by_itself(unscaled):
    """The gradient overflows at first, which is the scaler's business where nothing is scored."""
    model, scaler = tiny.start("vit"), torch.amp.GradScaler("cpu", init_scale=2.0**127)
    masks, _ = prune(model, method="magnitude", sparsity=0.5)
    chosen = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)

    def step(batch):
        chosen.zero_grad()
        scaler.scale(loss(model, batch)).backward()
        if unscaled:
            scaler.unscale_(chosen)
            keeper.before_step()
        scaler.step(chosen)
        scaler.update()

    keeper = keep_pruned(model, chosen, masks)
    before = copy.deepcopy(model.state_dict())
    for batch in batches()[:12]:
        step(batch)
        assert_zero(model, masks)
    assert scaler.get_scale() < 2.0**127  # some were skipped, and some were not
    assert not torch.equal(before["head.weight"], model.head.weight)
    keeper.remove()
    keeper = keep_pruned(model, chosen, masks, "seven_dyn", 0.8, STEPS)
    with pytest.raises(ValueError, match="make the optimizer with fused=False"):
        step(batches()[0])


def test_a_method_goes_on_from_what_is_removed_already():
    """A cubic schedule from dense passes half only at its third of eight updates or later: until
    then the masks are those that were given.
    """
    model = tiny.start("vit")
    masks, _ = prune(model, batches(), loss, "snip", 0.5)
    chosen = OPTIMIZERS["adamw"](model.parameters())
    keeper = keep_pruned(model, chosen, masks, "seven_dyn", 0.8, STEPS)
    kept = []
    for batch in batches()[:STEPS]:
        chosen.zero_grad()
        loss(model, batch).backward()
        chosen.step()
        kept.append(keeper.masks.kept)
        assert_zero(model, masks)
    keeper.check_finished()
    total = masks.total
    assert kept[0] == masks.kept and kept[-1] == total - round(0.8 * total)
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize(
    ("method", "sparsity", "prunable", "said"),
    [
        ("movement", 0.8, None, "under method=movement weights may grow back"),
        ("taylor_dyn", 0.3, None, r"fewer than the \d+ that sparsity=0.3 keeps"),
        ("taylor_dyn", 0.8, "fc1", "method=taylor_dyn is to prune the same weights"),
    ],
)
def test_masks_that_a_method_cannot_go_on_from_are_refused(method, sparsity, prunable, said):
    model = tiny.start("vit")
    masks, _ = prune(model, method="magnitude", sparsity=0.5)
    chosen = OPTIMIZERS["sgd"](model.parameters())
    with pytest.raises(ConfigError, match=said):
        keep_pruned(model, chosen, masks, method, sparsity, STEPS, prunable=prunable)


def test_what_cannot_work_is_said_in_a_line():
    model = tiny.start("vit")
    chosen = OPTIMIZERS["sgd"](model.parameters())
    for given, said in (
        ({}, "masks and method are missing"),
        ({"method": "seven_dyn"}, "steps is missing: method=seven_dyn"),
        ({"method": "snip", "steps": 5}, "snip: it prunes before training; .*seven_dyn"),
        ({"method": "seven_dyn", "steps": 1}, "method=seven_dyn: schedule.steps=0.5 is 0 steps"),
        ({"masks": {"odd": torch.ones(1, dtype=torch.bool)}}, "no weight odd"),
        ({"masks": {"head.weight": torch.ones(1, dtype=torch.bool)}}, "differ in shape"),
    ):
        with pytest.raises(ConfigError, match=said):
            keep_pruned(model, chosen, **given)
    keep_pruned(model, chosen, method="seven_dyn", steps=STEPS)
    loss(model, batches()[0]).backward()
    with pytest.raises(ValueError, match="a closure makes gradients inside the step"):
        chosen.step(lambda: loss(model, batches()[0]))
    model.head.weight.grad[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the gradient of head.weight is not finite"):
        chosen.step()
