"""The packed file: exact round trip, the documented layout, damage told."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from seven_bench.pruning import MaskSet, prunable_parameters, prune
from seven_bench.store.masks import write_masks
from seven_bench.store.packed import load_packed, save_packed
from seven_bench.testing.tiny import MODELS, start


def pruned(name: str, sparsity: float = 0.9):
    model = start(name)
    params = prunable_parameters(model)
    masks = prune({n: p.detach().abs() for n, p in params.items()}, MaskSet.ones(params), sparsity)
    masks.apply_({n: p.data for n, p in params.items()})
    return model, masks


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97])
def test_round_trip_is_exact(name, sparsity, tmp_path):
    model, masks = pruned(name, sparsity)
    path = save_packed(model.state_dict(), masks, tmp_path / "packed.safetensors")
    state, found = load_packed(path)
    assert MaskSet(found).hash() == masks.hash()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[n], value) for n, value in model.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_living_zero_stays_alive(tmp_path):
    masks = MaskSet({"w": torch.tensor([[True, True, False]])})
    path = save_packed({"w": torch.tensor([[0.0, 2.0, 0.0]])}, masks, tmp_path / "p.safetensors")
    state, found = load_packed(path)
    assert state["w"].tolist() == [[0.0, 2.0, 0.0]]
    assert found["w"].tolist() == [[True, True, False]]


def test_the_layout_is_as_documented(tmp_path):
    """Read with safetensors and NumPy alone, as a stranger would."""
    model, masks = pruned("bert")
    path = save_packed(model.state_dict(), masks, tmp_path / "packed.safetensors")
    with safe_open(path, "np") as file:
        shapes = json.loads(file.metadata()["shapes"])
        for name, shape in shapes.items():
            bits = np.unpackbits(file.get_tensor(f"mask/{name}"), bitorder="little")
            mask = bits[: np.prod(shape)].astype(bool)
            whole = np.zeros(np.prod(shape), dtype=np.float32)
            whole[mask] = file.get_tensor(name)
            assert np.array_equal(whole.reshape(shape), model.state_dict()[name].numpy())


def test_bytes_of_the_pruned_weights_at_nine_tenths(tmp_path):
    weight = torch.randn(400, 1000)
    masks = prune({"w": weight.abs()}, MaskSet.ones({"w": weight}), 0.9)
    path = save_packed({"w": weight * masks["w"]}, masks, tmp_path / "p.safetensors")
    assert path.stat().st_size <= 0.15 * weight.numel() * 4


def test_what_is_not_pruned_is_refused(tmp_path):
    masks = MaskSet({"w": torch.tensor([True, False])})
    with pytest.raises(ValueError, match="removed weights that are not 0"):
        save_packed({"w": torch.ones(2)}, masks, tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damage_is_told(damage, tmp_path):
    model, masks = pruned("vit")
    path = save_packed(model.state_dict(), masks, tmp_path / "p.safetensors")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        with safe_open(path, "np") as file:
            bits = file.get_tensor(f"mask/{next(iter(masks))}").tobytes()
        data[bytes(data).index(bits)] ^= 1
    else:
        write_masks(masks, path)
        data = bytearray(path.read_bytes())
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"p\.safetensors"):
        load_packed(path)
