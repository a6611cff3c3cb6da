"""Models by their name: what a folder's config or a library says becomes settings, and no more."""

import json

import pytest
import torch
from safetensors.torch import save_file

from seven_bench.data.tokenizers import make_tokenizer
from seven_bench.errors import ConfigError
from seven_bench.pruning import prunable_parameters
from seven_bench.settings import timm_names
from seven_bench.settings.identity import identify
from seven_bench.training.start import starting_model

WORDS = ["a bad film", "a good film"]
COMMON = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 16, "vocab_size": 20, "max_position_embeddings": 130}  # fmt: skip
ATTENTION, FORWARD = 4 * 8 * 8, 2 * 8 * 16
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4,
           "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0}  # fmt: skip
TEXTS = {  # (what config.json says besides, prunable weights by hand)
    "bert": ({}, 2 * (ATTENTION + FORWARD)),
    "roberta": ({"type_vocab_size": 1, "pad_token_id": 1}, 2 * (ATTENTION + FORWARD)),
    "xlm-roberta": ({"type_vocab_size": 1, "pad_token_id": 1}, 2 * (ATTENTION + FORWARD)),
    "electra": ({"embedding_size": 4}, 2 * (ATTENTION + FORWARD)),
    "mpnet": ({"pad_token_id": 1}, 2 * (ATTENTION + FORWARD)),
    "deberta-v2": (DEBERTA, 2 * (ATTENTION + FORWARD)),
    # keys of positions of their own, as v2 without sharing has them: two more of d x d a layer
    "deberta": ({"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
                2 * (ATTENTION + FORWARD + 2 * 8 * 8)),
    "distilbert": ({"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
                   2 * (ATTENTION + FORWARD)),
}  # fmt: skip


def text_folder(folder, kind, **changes):
    """A folder as of the hub: config, tokenizer, the bare model's weights."""
    from transformers import AutoConfig, AutoModel

    told, _ = TEXTS[kind]
    config = AutoConfig.for_model(kind, **{**COMMON, **told})
    make_tokenizer(WORDS, 20).save_pretrained(folder)
    torch.manual_seed(3)
    model = AutoModel.from_config(config)
    save_file({n: v.clone() for n, v in model.state_dict().items()}, folder / "model.safetensors")
    written = {**json.loads(config.to_json_string()), **changes}
    (folder / "config.json").write_text(json.dumps(written))
    return model


def settings_of(make_config, folder, *more):
    return make_config(
        "task=glue/sst2", "model=hf", f"model.name={folder}", "start=pretrained", "logger=none",
        *more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_a_folder_gives_shape_weights_and_tokenizer(make_config, tmp_path, kind):
    folder = tmp_path / "my model"
    folder.mkdir()
    saved = text_folder(folder, kind)
    settings = settings_of(make_config, folder)
    assert settings.model.name == "my model" and settings.model.vocabulary == 20
    assert settings.model.tokenizer == settings.start.weights == str(folder)
    model = starting_model(settings, None)
    assert sum(p.numel() for p in prunable_parameters(model).values()) == TEXTS[kind][1]
    state = model.base_model.state_dict()
    assert all(
        torch.equal(value, state[n]) for n, value in saved.state_dict().items() if n in state
    )
    assert len(state) >= len(saved.state_dict()) - 2  # but for a pooler
    ids = torch.tensor([[2, 4, 5, 3]])
    mine, theirs = (m.eval()(input_ids=ids)[0] for m in (model.base_model, saved))
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_place_is_no_part_of_an_id_and_content_is(make_config, tmp_path):
    ids = []
    for place in ("one", "two", "three"):
        folder = tmp_path / place / "mine"
        folder.mkdir(parents=True)
        text_folder(folder, "bert")
        if place == "three":
            other = {"embeddings.word_embeddings.weight": torch.zeros(20, 8)}
            save_file(other, folder / "model.safetensors")
        ids.append(identify(settings_of(make_config, folder)).run_id)
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("sst2/mine/") or "/mine/" in ids[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "albert"}, "model_type=albert: its layers share their weights"),
        ({"model_type": "gpt2"}, "model_type=gpt2: allowed are bert, roberta"),
        ({"model_type": ["bert"]}, "allowed are bert, roberta"),
        (
            {"auto_map": {"AutoModel": "evil.Model"}},
            "auto_map={'AutoModel': 'evil.Model'}: allowed is none",
        ),
        ({"position_embedding_type": "relative_key"}, "allowed is absolute"),
        ({"is_decoder": True}, "is_decoder=true: allowed is false"),
        ({"hidden_size": 10**9}, "hidden_size=1000000000: allowed is a number up to"),
        ({"hidden_size": "torch.load"}, "hidden_size=torch.load: allowed is a number up to"),
        ({"hidden_act": "../x"}, "model.build.hidden_act=../x: allowed is a number"),
        ({"hidden_size": {"_target_": "x"}}, "hidden_size={'_target_': 'x'}: allowed is a number"),
        ({"vocab_size": 21}, r"word_embeddings.weight is [20, 8], config.json says [21, 8]"),
        ({"hidden_size": 16}, r"word_embeddings.weight is [20, 8], config.json says [20, 16]"),
        ({"max_position_embeddings": 64}, "task.max_length=128: model.name=mine has 64 positions"),
        ({"vocab_size": None}, "vocab_size is missing"),
    ],
)
def test_a_config_that_says_what_it_may_not(make_config, tmp_path, changes, told):
    folder = tmp_path / "mine"
    folder.mkdir()
    text_folder(folder, "bert", **changes)
    with pytest.raises(ConfigError) as caught:
        settings_of(make_config, folder)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_lacks_something(make_config, tmp_path):
    folder = tmp_path / "mine"
    with pytest.raises(ConfigError, match=r"needs model.name=FOLDER with config.json"):
        settings_of(make_config, "null")
    for given in (folder, "../mine"):
        with pytest.raises(ConfigError, match="no such folder"):
            settings_of(make_config, given)
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"holds none of config.json"):
        settings_of(make_config, folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json: no JSON"):
        settings_of(make_config, folder)
    text_folder(folder, "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"holds none of model.safetensors"):
        settings_of(make_config, folder)
    settings_of(make_config, folder, "start=init")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"holds none of tokenizer.json"):
        settings_of(make_config, folder, "start=init")
    settings_of(make_config, folder, "start=init", "model.tokenizer=data")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ConfigError, match="no safetensors file"):
        settings_of(make_config, folder, "model.tokenizer=data")


TOWER = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_images_and_texts_by_a_folder(make_config, tmp_path, kind):
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    folder = tmp_path / "towers"
    folder.mkdir()
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = {**TOWER, **ends, "vocab_size": 20, "max_position_embeddings": 24}
    vision = {**TOWER, "image_size": 16, "patch_size": 8}
    config, built = {"clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel)}[kind]
    further = {"projection_dim": 8} if kind == "clip" else {}
    torch.manual_seed(3)
    saved = built(config(text_config=text, vision_config=vision, **further))
    saved.save_pretrained(folder)
    make_tokenizer(WORDS, 20).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    settings = make_config(
        "task=clip/cifar10", "model=hf_clip", f"model.name={folder}", "start=pretrained",
        "logger=none",
    )  # fmt: skip
    assert settings.model.image.size == 16 and settings.model.image.mean == (0.1, 0.2, 0.3)
    assert settings.model.pad_to == (24 if kind == "siglip" else None)
    model = starting_model(settings, None)
    assert sum(p.numel() for p in prunable_parameters(model).values()) == 2 * (ATTENTION + FORWARD)
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in saved.state_dict().items())


@pytest.mark.parametrize(
    ("name", "weights", "size"),
    [
        ("deit_tiny_patch16_224", 12 * 12 * 192**2, 224),
        ("swin_tiny_patch4_window7_224",
         12 * (2 * 96**2 + 2 * 192**2 + 6 * 384**2 + 2 * 768**2)
         + 2 * 4 * (96**2 + 192**2 + 384**2), 224),
        ("cait_xxs24_224", 26 * 12 * 192**2 + 24 * 2 * 4**2, 224),
        ("vit_base_patch16_siglip_224", 12 * 12 * 768**2, 224),
    ],
)  # fmt: skip
def test_a_classifier_of_timm(make_config, name, weights, size):
    settings = make_config("model=timm", f"model.name={name}", "start=init", "logger=none")
    assert settings.model.name == name and settings.model.image.size == size
    assert settings.model.pretrained.startswith(f"timm/{name}.")
    with torch.device("meta"):
        model = starting_model(settings, None)
    assert sum(p.numel() for p in prunable_parameters(model).values()) == weights


def test_what_timm_said_is_kept(make_config, monkeypatch):
    given = ("model=timm", "model.name=deit_tiny_patch16_224", "start=init", "logger=none")
    first = make_config(*given)
    timm_names.facts_of.cache_clear()
    monkeypatch.setattr(timm_names, "_ask", None)
    assert make_config(*given) == first
    smaller = make_config(*given, "model.image.size=112")
    assert smaller.model.image.size == smaller.model.build.arguments["img_size"] == 112


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet18", "ResNet has no prunable weights"),
        ("pvt_v2_b0", "no whole timm_vit"),
        ("deit_tinyy", "timm has no such model, but deit_tiny"),
        ("deit_tiny_patch16_224.nobody", "Invalid pretrained tag"),
        ("../x", "allowed is a name"),
        ("hf-hub:a/b", "timm has no such model"),
        ("null", "needs model.name=NAME"),
    ],
)
def test_a_name_that_timm_has_not_or_no_rule_prunes(make_config, name, told):
    with pytest.raises(ConfigError) as caught:
        make_config("model=timm", f"model.name={name}", "start=init", "logger=none")
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_pattern_of_ones_own_lets_a_part_be_pruned(make_config):
    given = ("model=timm", "model.name=pvt_v2_b0", "start=init", "logger=none")
    make_config(*given, r"prunable.pattern=blocks\.\d+\.mlp\.fc")
