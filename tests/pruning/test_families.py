"""Which weights each family may lose: counts that a reader can multiply out, on real shapes."""

import re
from dataclasses import replace

import pytest
import torch
from timm.models.cait import Cait
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    SiglipConfig,
    SiglipModel,
)

from seven_bench.pruning import prunable
from seven_bench.pruning.prunable import (
    denominators,
    family_of,
    left_out,
    prunable_parameters,
)
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
    "vit_focus": ("cifar10", "timm_vit", 48, 12 * 12 * 384**2),
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
        return request.param, build(config.model.build)


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


def small(name: str) -> torch.nn.Module:
    """Architectures of which a row of FAMILIES matches a part, without memory for their weights."""
    tiny = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)}
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    with torch.device("meta"):
        match name:
            case "deberta":
                config = DebertaV2Config(intermediate_size=16, vocab_size=9, **shape)
                return DebertaV2ForSequenceClassification(config)
            case "pvt":
                widths = {"depths": (1, 1, 1, 1), "embed_dims": (8, 8, 8, 8)}
                return PyramidVisionTransformerV2(num_heads=(1, 1, 1, 1), **widths)
            case "swin":
                return SwinTransformer(img_size=56, window_size=7, **tiny)
            case "swin_v2":
                return SwinTransformerV2(img_size=56, window_size=7, **tiny)
            case "eva":
                return Eva(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1,
                           qkv_fused=False, swiglu_mlp=True, mlp_ratio=2)  # fmt: skip
            case "mpnet":
                config = MPNetConfig(intermediate_size=16, vocab_size=9, **shape)
                return MPNetForSequenceClassification(config)
            case "albert":
                config = AlbertConfig(intermediate_size=16, embedding_size=4, vocab_size=9, **shape)
                return AlbertForSequenceClassification(config)
            case "siglip_timm":
                return VisionTransformer(
                    img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1, global_pool="map"
                )
            case "siglip":
                vision = {"image_size": 8, "patch_size": 4, "intermediate_size": 16, **shape}
                text = {"vocab_size": 9, "intermediate_size": 16, **shape}
                ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
                return SiglipModel(SiglipConfig(vision_config=vision, text_config={**text, **ends}))
            case "cait":
                return Cait(img_size=32, embed_dim=8, depth=1, num_heads=2)
            case _:
                return GPT2ForSequenceClassification(GPT2Config(n_embd=8, n_layer=1, n_head=1))


WHOLE = {  # by hand, width 8: (family, what may be removed, what is named as left out)
    # query, key, value, output: 4 d x d; feed-forward: 2 d x 16
    "deberta": ("deberta", 4 * 8**2 + 2 * 8 * 16, ["pooler.dense.weight"]),
    "mpnet": ("mpnet", 4 * 8**2 + 2 * 8 * 16, []),
    # two stages of a block each, widths 8 and 16: 12 d^2; merging: 16 x 32
    "swin": ("swin", 12 * 8**2 + 12 * 16**2 + 16 * 32, []),
    "swin_v2": ("swin", 12 * 8**2 + 12 * 16**2 + 16 * 32, []),
    "siglip_timm": ("timm_vit", 12 * 8**2, [
        "attn_pool.q.weight", "attn_pool.kv.weight", "attn_pool.proj.weight",
        "attn_pool.mlp.fc1.weight", "attn_pool.mlp.fc2.weight",
    ]),
    "siglip": ("clip", 2 * (4 * 8**2 + 2 * 8 * 16), [
        "vision_model.head.attention.in_proj_weight", "vision_model.head.attention.out_proj.weight",
        "vision_model.head.mlp.fc1.weight", "vision_model.head.mlp.fc2.weight",
    ]),
    # a block of 12 d^2 and two of talking heads, h x h; two of class attention, 4 d^2 + 8 d^2
    "cait": ("cait", 12 * 8**2 + 2 * 2**2 + 2 * 12 * 8**2, []),
    "eva": ("timm_vit", 4 * 8**2 + 3 * 8 * 16, []),  # gated: two layers into the width, one out
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_rule_is_whole(name):
    """What may be removed by hand, what stays whole by name; nothing is in neither."""
    family, count, left = WHOLE[name]
    model = small(name)
    params = prunable_parameters(model)
    assert family_of(model).name == family
    assert sum(p.numel() for p in params.values()) == count
    assert left_out(model, params) == left
    linear = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    others = linear - {*params} - {*left}
    assert all(family_of(model).is_head(n) or family_of(model).is_embedding(n) for n in others)


def test_poolers_are_an_option():
    for name in ("deberta", "siglip", "siglip_timm"):
        model = small(name)
        assert left_out(model, prunable_parameters(model, ["pooler"])) == []


def test_weights_that_several_layers_share_are_refused():
    for pattern in (None, "ffn"):
        with pytest.raises(ValueError, match=r"Albert.*its layers share their weights"):
            prunable_parameters(small("albert"), pattern=pattern)


def test_a_model_of_convolutions_is_no_vit():
    """ConvNeXt's names are a ViT's, yet what mixes its pixels is convolutions."""
    with torch.device("meta"):
        model = ConvNeXt(depths=(1,) * 4, dims=(8,) * 4)
    with pytest.raises(ValueError, match=r"no whole timm_vit: stages.0.blocks.0.conv_dw.weight, "):
        prunable_parameters(model)
    meant = prunable_parameters(model, pattern=r"mlp\.fc")
    assert sum(p.numel() for p in meant.values()) == 4 * 8 * 8**2  # four blocks of two d x 4d


def test_a_convolution_of_debertas_own_stays_whole():
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    with torch.device("meta"):
        config = DebertaV2Config(
            intermediate_size=16, conv_kernel_size=3, relative_attention=True,
            pos_att_type=["p2c", "c2p"], share_att_key=True, position_buckets=4, **shape,
        )  # fmt: skip
        model = DebertaV2ForSequenceClassification(config)
    params = prunable_parameters(model)
    assert sum(p.numel() for p in params.values()) == 4 * 8**2 + 2 * 8 * 16
    assert "deberta.encoder.conv.conv.weight" in left_out(model, params)


LEFT_OUT = {
    "pvt": ("timm_vit", "stages.0.blocks.0.attn.kv.weight, stages.0.blocks.0.attn.q.weight"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_family_that_matches_a_part_is_refused_with_what_it_leaves_out(name):
    family, names = LEFT_OUT[name]
    model = small(name)
    assert family_of(model).name == family
    with pytest.raises(ValueError, match=rf"no whole {family}: {names}.*prunable.pattern=REGEX"):
        prunable_parameters(model)
    rule = {n for n, _ in model.named_parameters() if re.search(family_of(model).encoder, n)}
    assert {*prunable_parameters(model, partly=True)} == rule


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_pattern_of_the_users_own_says_what_is_meant(name):
    model, family = small(name), family_of(small(name))
    own = {n for n, _ in model.named_parameters() if re.search(family.encoder, n)}
    assert {*prunable_parameters(model, pattern=family.encoder)} == own
    everything = prunable_parameters(model, pattern=r"(blocks|layers?)\.\d+\.")
    assert {*everything} > own
    assert all(p.ndim > 1 for p in everything.values())
    sizes = denominators(model, everything)
    assert sizes["encoder"] > sum(dict(model.named_parameters())[n].numel() for n in own)


def test_a_narrow_embedding_is_no_part_of_the_encoder():
    """ELECTRA-small's tables are 128 wide and projected to 256."""
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    with torch.device("meta"):
        config = ElectraConfig(embedding_size=4, intermediate_size=16, **shape)
        model = ElectraForSequenceClassification(config)
    assert sum(p.numel() for p in prunable_parameters(model).values()) == 4 * 8**2 + 2 * 8 * 16
    assert family_of(model).is_embedding("electra.embeddings_project.weight")


def test_a_pattern_that_is_wrong_is_refused():
    model = small("deberta")
    for pattern, said in (("(", "pattern='\\('"), ("blocks", "no weight of a layer has such a")):
        with pytest.raises(ValueError, match=said):
            prunable_parameters(model, pattern=pattern)
    with pytest.raises(ValueError, match="no weight of a layer"):
        prunable_parameters(model, pattern="classifier|LayerNorm|embeddings")


def test_weights_that_are_not_out_by_in_are_refused(monkeypatch):
    row = prunable.Family("gpt2", r"h\.\d+\.(attn\.c_(attn|proj)|mlp\.c_(fc|proj))\.weight", "wt?e")
    with pytest.raises(ValueError, match="GPT2ForSequenceClassification has no prunable weights"):
        prunable_parameters(small("gpt2"))
    monkeypatch.setattr(prunable, "FAMILIES", (*prunable.FAMILIES, replace(row, head=r"score\..*")))
    for pattern in (None, "c_attn"):
        with pytest.raises(ValueError, match=r"h.0.attn.c_attn.weight is the weight of a Conv1D"):
            prunable_parameters(small("gpt2"), pattern=pattern)
