"""Pretrained weights: what may be missing, what is resampled, what is refused."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from seven_bench.errors import ConfigError
from seven_bench.training.models import clip_model, text_model
from seven_bench.training.start import load_pretrained

BERT = {
    "model_type": "bert", "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip


def bert(head="classification", classes=2, **shape):
    return text_model(head=head, classes=classes, **{**BERT, **shape})


def vit(size=32, patch=8, classes=3, channels=3):
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=size, patch_size=patch, num_classes=classes,
        in_chans=channels, embed_dim=16, depth=1, num_heads=2,
    )  # fmt: skip


def save(state, folder):
    folder.mkdir(exist_ok=True)
    whole = {name: value.contiguous() for name, value in state.items()}
    save_file(whole, folder / "model.safetensors")
    return folder


def same(one, other, prefix=""):
    shared = [name for name in one if prefix + name in other]
    return bool(shared) and all(torch.equal(one[name], other[prefix + name]) for name in shared)


def test_a_bare_encoder_is_loaded_below_a_new_head(tmp_path):
    encoder = BertModel(BertConfig(**{k: v for k, v in BERT.items() if k != "model_type"}))
    model = bert()
    head = model.classifier.weight.detach().clone()
    load_pretrained(model, save(encoder.state_dict(), tmp_path))
    assert same(encoder.state_dict(), model.state_dict(), "bert.")
    assert torch.equal(model.classifier.weight, head)


def test_the_old_names_of_norms_are_known(tmp_path):
    state = bert().state_dict()
    old = {}
    for name, value in state.items():
        former = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[former.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    assert sum("gamma" in name for name in old) == 5
    model = bert()
    load_pretrained(model, save(old, tmp_path))
    assert same(state, model.state_dict())


def test_a_head_of_another_size_stays_random(tmp_path):
    three, model = bert(classes=3), bert()
    head = model.classifier.weight.detach().clone()
    load_pretrained(model, save(three.state_dict(), tmp_path))
    assert torch.equal(model.classifier.weight, head)
    assert torch.equal(model.bert.pooler.dense.weight, three.bert.pooler.dense.weight)


def test_a_pooler_may_be_missing_a_layer_may_not(tmp_path):
    whole = bert().state_dict()
    without = {name: value for name, value in whole.items() if "pooler" not in name}
    load_pretrained(bert(), save(without, tmp_path))
    less = {name: value for name, value in without.items() if "layer.1" not in name}
    with pytest.raises(ConfigError, match=r"16 weights are missing, bert\.encoder\.layer\.1"):
        load_pretrained(bert(), save(less, tmp_path))


def test_another_shape_is_refused_with_both(tmp_path):
    folder = save(bert(intermediate_size=64).state_dict(), tmp_path)
    with pytest.raises(ConfigError, match=r"intermediate\.dense\.bias is \(64,\), .* is \(32,\)"):
        load_pretrained(bert(), folder)


def test_half_precision_is_loaded_as_float32(tmp_path):
    state = {name: value.to(torch.bfloat16) for name, value in bert().state_dict().items()}
    model = bert()
    load_pretrained(model, save(state, tmp_path))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert same({n: v.float() for n, v in state.items()}, model.state_dict())


def test_shards_are_put_together(tmp_path):
    import json

    state, model = bert().state_dict(), bert()
    names = list(state)
    parts = {"model-1.safetensors": names[:10], "model-2.safetensors": names[10:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, tmp_path / file)
    index = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    load_pretrained(model, tmp_path)
    assert same(state, model.state_dict())


@pytest.mark.parametrize("change", [{"size": 64}, {"patch": 4}, {"classes": 7}, {"channels": 1}])
def test_a_vit_is_brought_to_the_models_grid(tmp_path, change):
    folder = save(vit().state_dict(), tmp_path)
    model = vit(**change)
    head = model.head.weight.detach().clone()
    load_pretrained(model, folder)
    loaded = dict(model.named_parameters())
    assert same(dict(vit_blocks(folder).items()), loaded)
    assert torch.equal(model.head.weight, head) == ("classes" in change)


def vit_blocks(folder):
    from safetensors.torch import load_file

    return {n: v for n, v in load_file(folder / "model.safetensors").items() if "blocks" in n}


def test_both_towers_of_clip_are_loaded(tmp_path):
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**tower, "vocab_size": 50, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**tower, "image_size": 8, "patch_size": 4}
    one, other = (clip_model(text=text, vision=vision, projection_dim=8) for _ in range(2))
    load_pretrained(other, save(one.state_dict(), tmp_path))
    assert same(one.state_dict(), other.state_dict())
