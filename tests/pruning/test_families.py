"""Which weights each family may lose: counts that a reader can multiply out, on real shapes."""

import pytest
import torch

from seven_bench.pruning.prunable import denominators, family_of, prunable_parameters
from seven_bench.settings.building import build

# per layer four d x d of attention and two d x 4d: 12 d^2
LAYERS = {  # model: (task, family, linear weights, prunable)
    "bert_base": ("glue/sst2", "bert", 72, 12 * 12 * 768**2),
    "roberta_base": ("glue/sst2", "bert", 72, 12 * 12 * 768**2),
    "distilbert": ("glue/sst2", "distilbert", 36, 6 * 12 * 768**2),
    "minilm": ("glue/sst2", "bert", 36, 6 * 12 * 384**2),
    "vit_base_patch16": ("imagenet", "timm_vit", 48, 12 * 12 * 768**2),
    "vit_base_patch32": ("imagenet", "timm_vit", 48, 12 * 12 * 768**2),
    "vit_small": ("imagenet", "timm_vit", 48, 12 * 12 * 384**2),
    "deit_small": ("imagenet", "timm_vit", 48, 12 * 12 * 384**2),
    "vit_tiny": ("cifar10", "timm_vit", 48, 12 * 12 * 192**2),
    "clip_vit_b32": ("clip/cifar10", "clip", 144, 12 * 12 * (512**2 + 768**2)),
    "clip_vit_b16": ("clip/cifar10", "clip", 144, 12 * 12 * (512**2 + 768**2)),
}


@pytest.fixture
def model(request, make_config):
    """A model of its real shape, without memory for its weights."""
    task, *_ = LAYERS[request.param]
    start = ["start=init", "logger=none"]
    start += ["model.tokenizer=data"] if "/" in task else []
    config = make_config(f"task={task}", f"model={request.param}", *start)
    with torch.device("meta"):
        return request.param, build(config["model"]["build"])


@pytest.mark.parametrize("model", LAYERS, indirect=True)
def test_the_encoders_linear_weights_and_nothing_else(model):
    name, built = model
    _, family, layers, weights = LAYERS[name]
    params = prunable_parameters(built)
    assert family_of(built).name == family
    assert len(params) == layers
    assert sum(p.numel() for p in params.values()) == weights
    assert all(p.ndim == 2 for p in params.values())
    linear = {f"{n}.weight" for n, m in built.named_modules() if isinstance(m, torch.nn.Linear)}
    outside = {n for n in linear - set(params) if not family_of(built).is_head(n)}
    assert outside <= {"bert.pooler.dense.weight"}  # an option


@pytest.mark.parametrize("model", ["bert_base"], indirect=True)
def test_bert_base_has_72_linears_with_84_9_million_weights(model):
    _, built = model
    sizes = denominators(built, prunable_parameters(built))
    assert sizes["encoder"] == sizes["prunable"] == 84_934_656
    assert sizes["model"] == 109_483_778  # with a classifier of two
    assert sizes["model"] - sizes["non_embedding"] == (30_522 + 512 + 2 + 2) * 768
    assert len(prunable_parameters(built, ["pooler"])) == 73


@pytest.mark.parametrize("model", ["clip_vit_b32"], indirect=True)
def test_both_towers_of_clip_are_prunable(model):
    _, built = model
    params = prunable_parameters(built)
    towers = {
        tower: sum(p.numel() for n, p in params.items() if n.startswith(tower))
        for tower in ("text_model", "vision_model")
    }
    assert towers == {"text_model": 12 * 12 * 512**2, "vision_model": 12 * 12 * 768**2}
    assert sum(p.numel() for p in built.parameters()) == 151_277_313  # as published


@pytest.mark.parametrize("model", ["vit_base_patch16"], indirect=True)
def test_the_patch_embedding_is_an_option(model):
    _, built = model
    more = prunable_parameters(built, ["patch_embedding"])
    assert len(more) == 49
    assert more["patch_embed.proj.weight"].numel() == 768 * 3 * 16 * 16
    assert sum(p.numel() for p in built.parameters()) == 86_567_656  # as published


@pytest.mark.parametrize("model", LAYERS, indirect=True)
def test_every_parameter_is_of_one_kind_at_most(model):
    _, built = model
    family, params = family_of(built), prunable_parameters(built)
    for name, _ in built.named_parameters():
        assert (name in params) + family.is_head(name) + family.is_embedding(name) <= 1
    assert any(family.is_head(name) for name, _ in built.named_parameters())
    assert any(family.is_embedding(name) for name, _ in built.named_parameters())
