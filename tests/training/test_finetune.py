"""Which weights are trained, how fast, and LoRA's merge."""

from dataclasses import replace

import pytest
import torch

from seven_bench.pruning import MaskSet, prunable_parameters
from seven_bench.testing import tiny
from seven_bench.training.finetune import (
    Finetune,
    Recipe,
    freeze_others,
    implementation,
    layer_depths,
    learning_rate_factor,
    make_optimizer,
    trained_parameters,
)
from seven_bench.training.lora import Adapters

RECIPE = Recipe(max_epochs=1, lr=0.1, batch_size=4, weight_decay=0.1)


def inputs():
    batch = tiny.tiny_data(0).splits["train"][[0, 1, 2, 3]]
    return batch["pixel_values"]


def names_of(optimizer, model):
    known = {id(p): name for name, p in model.named_parameters()}
    return {known[id(p)] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", tiny.MODELS)
@pytest.mark.parametrize("strategy", ["full", "linear_probe", "bitfit", "llrd"])
def test_what_each_strategy_trains(name, strategy):
    model = tiny.start(name)
    everything = {n for n, _ in model.named_parameters()}
    trained = names_of(make_optimizer(model, RECIPE, Finetune(strategy)), model)
    heads = {
        "vit": {"head.weight", "head.bias"},
        "bert": {"classifier.weight", "classifier.bias"},
        "clip": {"logit_scale", "visual_projection.weight", "text_projection.weight"},
    }[name]
    expected = {
        "full": everything,
        "llrd": everything,
        "linear_probe": heads,
        "bitfit": heads | {n for n in everything if n.endswith(".bias")},
    }
    assert trained == expected[strategy]


def test_biases_and_norms_are_not_decayed():
    model = tiny.start("bert")
    for group in make_optimizer(model, RECIPE).param_groups:
        shapes = {p.ndim > 1 for p in group["params"]}
        assert shapes == {group["weight_decay"] == 0.1}


def test_layers_learn_slower_the_deeper_they_sit():
    model = tiny.start("bert")
    known = {id(p): name for name, p in model.named_parameters()}
    rates = {}
    for group in make_optimizer(model, RECIPE, Finetune("llrd", decay=0.5)).param_groups:
        for p in group["params"]:
            rates[known[id(p)]] = group["lr"]
    # two layers: the head and the pooler are 3 deep, the embeddings 0
    assert rates["classifier.weight"] == rates["bert.pooler.dense.weight"] == 0.1
    assert rates["bert.encoder.layer.1.output.dense.weight"] == 0.05
    assert rates["bert.encoder.layer.0.output.dense.bias"] == 0.025
    assert rates["bert.embeddings.word_embeddings.weight"] == 0.0125


def test_depths_of_a_vit():
    depths = layer_depths(tiny.start("vit"))
    assert depths["pos_embed"] == 0 and depths["patch_embed.proj.weight"] == 0
    assert depths["blocks.1.mlp.fc1.weight"] == 2 and depths["head.weight"] == 3


def test_frozen_weights_are_scored_when_a_method_asks():
    model = tiny.start("bert")
    params = prunable_parameters(model)
    freeze_others(model, Finetune("linear_probe"), params.values())
    wanted = {n for n, p in model.named_parameters() if p.requires_grad}
    assert wanted == set(params) | {"classifier.weight", "classifier.bias"}
    assert set(trained_parameters(model, Finetune("linear_probe"))) == wanted - set(params)


def test_an_unknown_strategy_is_named_with_the_known():
    with pytest.raises(ValueError, match="finetune=none: allowed are full, linear_probe"):
        trained_parameters(tiny.start("bert"), Finetune("none"))


@pytest.fixture
def merged():
    """A ViT, half pruned, after five steps of LoRA: before, masks, answers, merged, after."""
    torch.manual_seed(0)
    model = tiny.start("vit").train()
    params = prunable_parameters(model)
    masks = MaskSet({name: torch.rand(p.shape) > 0.5 for name, p in params.items()})
    masks.apply_({name: p.data for name, p in params.items()})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune = Finetune("lora", rank=2)
    adapters = Adapters(model, masks, finetune)
    freeze_others(model, finetune, ())
    optimizer = make_optimizer(model, RECIPE, finetune)
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs()).square().mean().backward()
        optimizer.step()
    answers = model.eval()(inputs())
    state = {name: v.clone() for name, v in adapters.merged_state(model).items()}
    adapters.remove()
    return before, masks, answers, state, model


def test_loras_merge_keeps_removed_weights_at_zero_and_moves_the_others(merged):
    before, masks, _, state, _ = merged
    for name, mask in masks.items():
        assert not state[name][~mask].any()
        assert not torch.equal(state[name], before[name])


def test_loras_merge_answers_as_what_was_trained(merged):
    _, _, answers, state, model = merged
    model.load_state_dict(state, strict=True)
    torch.testing.assert_close(model(inputs()), answers)


def test_lora_trains_nothing_else_but_the_head(merged):
    before, masks, _, state, _ = merged
    moved = {name for name in before if not torch.equal(before[name], state[name])}
    assert moved == {*masks, "head.weight", "head.bias"}


def test_without_its_additions_the_model_is_the_plain_one(merged):
    before, masks, _, _, model = merged
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in masks)


def test_adamax_by_hand():
    """Kingma & Ba 2014, arXiv 1412.6980, algorithm 2, of one weight with gradients 1 and -3: the
    first moment over its bias, by the larger of 0.999 u and |g|.
    """
    model = tiny.start("vit")
    recipe = replace(RECIPE, optimizer="adamax", weight_decay=0.0)
    optimizer = make_optimizer(model, recipe)
    weight = model.get_parameter("blocks.0.mlp.fc1.weight")
    start = weight.detach().clone()
    for gradient in (1.0, -3.0):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    moved = -0.1 * 1.0 - 0.1 * (0.9 * 0.1 - 0.1 * 3) / (1 - 0.9**2) / 3
    assert torch.allclose(weight - start, torch.full_like(weight, moved), atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fused_steps_are_those_of_the_papers(name):
    """AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101, algorithm 2) and SGD with momentum, its
    decay in the gradient, three steps in float64; twice the same, bit for bit.
    """
    recipe = replace(RECIPE, optimizer=name, weight_decay=0.1, momentum=0.9)
    gradients = torch.randn(3, 32, 16, generator=torch.Generator().manual_seed(1))

    def trained():
        model = tiny.start("vit")
        optimizer = make_optimizer(model, recipe)
        assert implementation(optimizer) == "fused"
        weight = model.get_parameter("blocks.0.mlp.fc1.weight")
        w = weight.detach().double()
        m = v = torch.zeros_like(w)
        for t, gradient in enumerate(gradients, 1):
            weight.grad = gradient.clone()
            optimizer.step()
            g = gradient.double()
            if name == "sgd":
                m = 0.9 * m + g + 0.1 * w
                w = w - recipe.lr * m
            else:
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                w = w - recipe.lr * 0.1 * w
                w = w - recipe.lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        return weight.detach().clone(), w

    (once, expected), (again, _) = trained(), trained()
    assert torch.equal(once, again)
    assert torch.allclose(once.double(), expected, atol=1e-6)


@pytest.mark.parametrize(("precision", "how"), [("bf16-mixed", "fused"), ("16-mixed", "plain")])
def test_under_a_gradient_scaler_no_optimizer_is_fused(precision, how):
    for name in ("adamw", "sgd"):
        recipe = replace(RECIPE, optimizer=name, precision=precision)
        assert implementation(make_optimizer(tiny.start("vit"), recipe)) == how


def test_the_learning_rate_falls_once_or_again_and_again():
    """Four steps an epoch: one epoch, then two by two; the floor is reached at the end of each."""
    once = learning_rate_factor(Recipe(3, 1.0, 8, warmup=0.0, lr_floor=0.2), 8)
    assert [once(step) for step in (0, 4, 8)] == pytest.approx([1.0, 0.6, 0.2])
    recipe = Recipe(5, 1.0, 8, warmup=0.0, lr_replay=("1ep", "2ep"))
    again = learning_rate_factor(recipe, 20, 4)
    assert [again(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    falls = [1 - step / 8 for step in range(8)]
    assert [again(step) for step in range(4, 20)] == falls + falls
    cosine = learning_rate_factor(replace(recipe, lr_schedule="cosine", lr_floor=0.1), 20, 4)
    assert cosine(4) == 1.0 and cosine(8) == pytest.approx(0.55)
    with pytest.raises(ValueError, match="times of at least a step"):
        learning_rate_factor(replace(recipe, lr_replay=("0it",)), 20, 4)


def test_without_replay_nothing_has_changed():
    recipe, total, warm = Recipe(1, 1.0, 8, warmup=0.1), 50, 5
    found = [learning_rate_factor(recipe, total)(step) for step in range(total + 1)]
    rise = [(step + 1) / (warm + 1) for step in range(warm)]
    assert found == rise + [1 - (step - warm) / (total - warm) for step in range(warm, total + 1)]
