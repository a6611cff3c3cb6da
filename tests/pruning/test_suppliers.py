"""What scores are supplied with, on the three families; and that scoring leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

from seven_bench.baselines.grasp import GraspScore
from seven_bench.baselines.snip import SnipScore
from seven_bench.pruning import OneShot, Score, prunable_parameters
from seven_bench.pruning.calibration import passes, prune_before, scoring
from seven_bench.pruning.needs import NEEDS, Need
from seven_bench.pruning.pruner import Method, Pruner
from seven_bench.pruning.suppliers import (
    SUPPLIERS,
    blocks,
    gradients,
    hessian_gradient,
    second_order,
    supplies,
    tempered,
)

WIDE = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
TEXT = {"vocab_size": 20, "max_position_embeddings": 8}
FAMILIES = ("vit", "bert", "clip")


def build(name):
    torch.manual_seed(3)
    if name == "vit":
        return VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=8, depth=2, num_heads=2,
            mlp_ratio=2, proj_drop_rate=0.5,
        )  # fmt: skip
    if name == "bert":
        config = BertConfig(
            num_hidden_layers=2, num_labels=3, initializer_range=0.3, **TEXT, **WIDE
        )
        return BertForSequenceClassification(config)
    text = CLIPTextConfig(
        num_hidden_layers=1, projection_dim=8, eos_token_id=19, bos_token_id=18, pad_token_id=17,
        **TEXT, **WIDE,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        num_hidden_layers=1, image_size=8, patch_size=4, num_channels=1, projection_dim=8, **WIDE
    )
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))


def batch_of(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(size, 1, 8, 8, generator=generator),
        "input_ids": torch.randint(0, 17, (size, 6), generator=generator),
        "labels": torch.arange(size) % 3,
    }


def loss_of(model):
    sentences = torch.tensor([[1, 2, 3, 19], [4, 5, 6, 19], [7, 8, 9, 19]])

    def loss(batch):
        if isinstance(model, VisionTransformer):
            logits = model(batch["pixel_values"].to(next(model.parameters()).dtype))
        elif isinstance(model, BertForSequenceClassification):
            logits = model(input_ids=batch["input_ids"]).logits
        else:
            pixels = batch["pixel_values"].to(next(model.parameters()).dtype)
            logits = model(input_ids=sentences, pixel_values=pixels).logits_per_image
        logits = logits.float() if logits.dtype == torch.float32 else logits
        return F.cross_entropy(logits, batch["labels"])

    return loss


class Collector(Score):
    """Remembers what it is shown."""

    def __init__(self, *needs):
        self.needs = frozenset(needs)
        self.seen = []

    def observe(self, seen):
        self.seen.append(seen)

    def scores(self, params, masks):
        return {name: torch.zeros(p.shape) for name, p in params.items()}


def show(name, need, batches, double=False, score=None, sparsity=0.0):
    model = build(name).double() if double else build(name)
    params = prunable_parameters(model)
    score = score or Collector(need)
    schedule = OneShot()
    method = Method(score, schedule, sparsity)
    plan = schedule.plan(len(batches), len(batches))
    pruner = Pruner(method, plan, params, torch.Generator())
    prune_before(pruner, model, params, loss_of(model), batches)
    return model, params, score


@pytest.mark.parametrize("name", FAMILIES)
def test_hessian_gradient_is_the_change_of_the_gradient(name):
    batches = [batch_of(seed=0), batch_of(seed=1)]
    model, params, score = show(name, "hessian_gradient", batches, double=True)
    model.eval()
    loss = loss_of(model)
    each = [gradients(loss(batch), params) for batch in batches]
    mean = {n: (each[0][n] + each[1][n]) / 2 for n in params}
    step = 1e-6
    for batch, seen in zip(batches, score.seen, strict=True):
        sides = []
        for sign in (1, -1):
            moved = copy.deepcopy(model)
            there = prunable_parameters(moved)
            with torch.no_grad():
                for n, p in there.items():
                    p.add_(mean[n], alpha=sign * step)
            sides.append(gradients(loss_of(moved)(batch), there))
        expected = {n: (sides[0][n] - sides[1][n]) / (2 * step) for n in params}
        largest = max(float(product.abs().max()) for product in expected.values())
        for n in params:
            off = float((seen.hessian_gradient[n] - expected[n]).abs().max())
            assert off < 1e-4 * largest, f"H g of {n} is off by {off} of {largest}"


@pytest.mark.parametrize("name", FAMILIES)
def test_grasp_scores_the_same_in_smaller_batches(name):
    whole = batch_of(size=8)
    small = [{n: v[i : i + 2] for n, v in whole.items()} for i in range(0, 8, 2)]
    found = []
    for batches in ([whole], small):
        _, params, score = show(name, "hessian_gradient", batches, double=True, score=GraspScore())
        found.append(score.scores(params, {}))
    for n, expected in found[0].items():
        largest = float(expected.abs().max())
        assert largest > 0
        off = float((found[1][n] / len(small) - expected).abs().max())
        assert off < 1e-6 * largest, n


@pytest.mark.parametrize("name", FAMILIES)
def test_example_squares_are_those_of_batches_of_one(name):
    batch = batch_of()
    _, _, together = show(name, "example_squares", [batch])
    one = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(4)]
    _, _, alone = show(name, "gradients", one)
    for n, squares in together.seen[0].example_squares.items():
        expected = torch.stack([seen.grads[n] ** 2 for seen in alone.seen]).mean(0)
        torch.testing.assert_close(squares, expected, msg=f"squares of {n}")


@pytest.mark.parametrize("name", FAMILIES)
def test_linearised_flow_is_positive_everywhere_and_conserved_at_the_end(name):
    batch = batch_of()
    before = build(name)
    model, _, score = show(name, "linear_gradient", [batch])
    for n, gradient in score.seen[0].linear_gradient.items():
        assert gradient.dtype == torch.float64
        assert bool((gradient > 0).all()), f"{n} has weights that nothing flows through"
    for (n, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        assert p.dtype == torch.float32 and torch.equal(p, q), f"{n} is not as it was"
    other = show(name, "linear_gradient", [batch_of(seed=8)])[2]
    for n, gradient in score.seen[0].linear_gradient.items():
        assert torch.equal(gradient, other.seen[0].linear_gradient[n]), "it looks at the data"


def test_linearised_flow_of_a_transformer_block_by_hand():
    model = VisionTransformer(
        img_size=4, patch_size=4, in_chans=1, num_classes=1, embed_dim=1, depth=1, num_heads=1,
        mlp_ratio=1,
    )  # fmt: skip
    block = model.blocks[0]
    values = {
        model.patch_embed.proj.weight: 0.25,
        block.attn.qkv.weight: torch.tensor([[2.0], [-3.0], [5.0]]),
        block.attn.proj.weight: -0.5, block.mlp.fc1.weight: 2.0, block.mlp.fc2.weight: -1.0,
        model.head.weight: 3.0,
    }  # fmt: skip
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(torch.as_tensor(value).expand_as(parameter))
    params = prunable_parameters(model)
    score, schedule = Collector("linear_gradient"), OneShot()
    pruner = Pruner(Method(score, schedule, 0.0), schedule.plan(1, 1), params, torch.Generator())
    batch = {"pixel_values": torch.zeros(1, 1, 4, 4), "labels": torch.zeros(1, dtype=torch.long)}
    prune_before(pruner, model, params, loss_of(model), [batch])
    # The patch is 16 x 0.25 = 4, the class token 0, their mean 2. Attention of the class token:
    # 0.5 (2 x 0 + 3 x 2 + 5 x 2) = 8, so x = 8; the MLP adds 2 x 1 x 8 = 16; the head 3 x 24 = 72.
    found = score.seen[0].linear_gradient
    assert found["blocks.0.mlp.fc2.weight"].item() == 3 * 16
    assert found["blocks.0.mlp.fc1.weight"].item() == 3 * 8
    assert found["blocks.0.attn.proj.weight"].item() == 3 * 3 * 16
    # q sees the class token alone, which is 0 before the first block; k and v the mean 2
    assert found["blocks.0.attn.qkv.weight"].flatten().tolist() == [0.0, 9.0, 9.0]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("need", sorted(SUPPLIERS))
def test_scoring_leaves_no_trace(name, need):
    """Modes, requires_grad, gradients, attention kernels, randomness, and the kept weights."""
    model = build(name)
    model.train()
    frozen = next(p for n, p in model.named_parameters() if n.endswith("bias"))
    frozen.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    state = {n: p.clone() for n, p in model.state_dict().items()}
    params = prunable_parameters(model)
    next(iter(params.values())).requires_grad_(False)  # is scored all the same
    required = [p.requires_grad for p in model.parameters()]
    kernels = (
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
    )
    schedule = OneShot()
    pruner = Pruner(
        Method(Collector(need), schedule, 0.5), schedule.plan(2, 2), params, torch.Generator()
    )
    batches = [batch_of(), batch_of(seed=1)]
    given = {n: torch.ones_like(p, dtype=torch.bool) for n, p in params.items()}  # for one of them
    masks = prune_before(pruner, model, params, loss_of(model), batches, given=given)
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == required
    assert all(p.grad is None for p in model.parameters())
    assert kernels == (
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
    )
    assert not any(module._forward_pre_hooks for module in model.modules()), "a hook is left"
    for n, p in model.state_dict().items():
        expected = state[n] * masks[n] if n in masks else state[n]
        assert torch.equal(p, expected), f"{n} moved"


def test_dropout_is_off_and_comes_back_after_an_error():
    model = build("vit")
    model.train()
    params = prunable_parameters(model)
    with scoring(model, params):
        assert not any(module.training for module in model.modules())
        first, second = (gradients(loss_of(model)(batch_of()), params) for _ in range(2))
        assert all(torch.equal(first[n], second[n]) for n in params), "scoring is noisy"
    with pytest.raises(RuntimeError, match="stop"), scoring(model, params):
        raise RuntimeError("stop")
    assert all(module.training for module in model.modules())


def test_fused_attention_has_no_second_derivative_and_the_plain_has():
    model = build("vit").eval()
    params = prunable_parameters(model)
    with pytest.raises(RuntimeError, match="not implemented"):
        hessian_gradient(loss_of(model)(batch_of()), params, params)
    with second_order():
        hessian_gradient(loss_of(model)(batch_of()), params, params)


def test_what_cannot_be_scored_is_named():
    model = build("bert")
    params = {"pooler": torch.nn.Parameter(torch.ones(2, 2))}
    with pytest.raises(ValueError, match="pooler takes no part in the loss"):
        gradients(loss_of(model)(batch_of()), params)
    with pytest.raises(ValueError, match="loss on a calibration batch is nan"):
        gradients(torch.tensor(float("nan")), params)
    with pytest.raises(ValueError, match="supplies no crystal_ball"):
        show("vit", "crystal_ball", [batch_of()])


def test_a_frozen_weight_is_scored_too():
    model = build("vit")
    for p in model.parameters():
        p.requires_grad_(False)
    params = prunable_parameters(model)
    schedule = OneShot()
    pruner = Pruner(
        Method(SnipScore(), schedule, 0.5), schedule.plan(1, 1), params, torch.Generator()
    )
    masks = prune_before(pruner, model, params, loss_of(model), [batch_of()])
    assert masks.kept == masks.total - round(masks.total / 2)
    assert not any(p.requires_grad for p in model.parameters()), "it has become trainable"


def test_temperature_divides_the_logits_and_nothing_else():
    logits = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    labels = torch.tensor([0])
    cool = tempered(lambda batch: F.cross_entropy(logits, batch) + logits.sum(), 4.0)
    expected = F.cross_entropy(logits / 4, labels) + logits.sum()
    assert float(cool(labels).detach()) == pytest.approx(float(expected.detach()))


def test_a_temperature_that_does_nothing_is_refused():
    cool = tempered(lambda batch: F.mse_loss(batch, torch.zeros(2)), 200.0)
    with pytest.raises(ValueError, match="temperature=200: the task's loss has no cross-entropy"):
        cool(torch.ones(2))


def test_a_new_need_is_a_row_and_a_supplier(monkeypatch):
    with pytest.raises(ValueError, match="need='losses': no row of NEEDS"):
        supplies("losses")(lambda context: lambda batch: {})
    monkeypatch.setitem(NEEDS, "losses", Need("the loss of each batch", passes=1))

    def losses(context):
        return lambda batch: {"losses": {"loss": context.loss(batch).detach()}}

    supplies("losses")(losses)
    try:
        model, params, score = show("vit", "losses", [batch_of()])
        assert float(score.seen[0].losses["loss"]) > 0
        assert passes(frozenset({"losses"}), model, params, loss_of(model), batch_of()) == 1
        with pytest.raises(AttributeError, match="activations is not supplied"):
            _ = score.seen[0].activations
        with pytest.raises(ValueError, match="or supplied already"):
            supplies("losses")(losses)
    finally:
        del SUPPLIERS["losses"]


def test_blocks_in_order():
    names = [
        "patch.proj.weight", "blocks.0.qkv.weight", "blocks.0.fc.weight", "blocks.1.qkv.weight",
        "blocks.10.qkv.weight", "pooler.weight",
    ]  # fmt: skip
    assert [len(b) for b in blocks(names)] == [1, 2, 1, 1, 1]


def test_the_bill_counts_passes():
    model = build("vit")
    params = prunable_parameters(model)

    def bill(*needs):
        return passes(frozenset(needs), model, params, loss_of(model), batch_of())

    assert bill("weights") == 0
    assert bill("gradients") == bill("example_squares") == 3
    assert bill("activations") == 2, "a forward pass a block"
    # g is 3; H g is a gradient (3) whose every product is differentiated again
    assert 3 + 5 < bill("hessian_gradient") < 3 + 10


@pytest.mark.parametrize("need", sorted(SUPPLIERS))
def test_processes_that_share_batches_get_what_one_would(need):
    """Two shares of 3 and 1 examples, weighted by their sizes, are the batch of 4."""
    batch = batch_of()
    shares = [{k: v[part] for k, v in batch.items()} for part in (slice(0, 3), slice(3, 4))]
    field = {"gradients": "grads"}.get(need, need)

    def supplied(one, weight=1.0):
        model = build("vit")
        params, schedule, score = prunable_parameters(model), OneShot(), Collector(need)
        pruner = Pruner(Method(score, schedule, 0.0), schedule.plan(1, 1), params, None)
        prune_before(
            pruner, model, params, loss_of(model), [one],
            lambda gathered: {n: t * weight for n, t in gathered.items()},
            given={n: torch.ones_like(p, dtype=torch.bool) for n, p in params.items()},
        )  # fmt: skip
        merged = {}
        for seen in score.seen:
            merged.update(getattr(seen, field))
        return merged

    whole, first, second = supplied(batch), supplied(shares[0], 1.5), supplied(shares[1], 0.5)
    if need == "hessian_gradient":
        return  # g is that of all processes: its parts do not add up by themselves
    if need == "given_masks":  # of no example: each process has them whole
        assert all(torch.equal(of[n], t) for of in (first, second) for n, t in whole.items())
        return
    for n, expected in whole.items():
        torch.testing.assert_close((first[n] + second[n]) / 2, expected, msg=f"{need} of {n}")


def test_examples_of_a_task_share_what_the_task_says():
    from seven_bench.training.clip import ClipModule
    from seven_bench.training.vision import VisionModule

    batch = {"pixel_values": torch.rand(3, 1), "labels": torch.arange(3), "input_ids": torch.eye(3)}
    for module, prompts in ((ClipModule, 3), (VisionModule, 1)):
        parts = module(nn.Linear(1, 1), None, 3).examples(batch)
        assert [part["labels"].tolist() for part in parts] == [[0], [1], [2]]
        assert all(len(part["input_ids"]) == prompts for part in parts), module.__name__
