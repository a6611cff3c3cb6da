"""Masks from anywhere: every way to write one file down gives the same masks, and no other."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from seven_bench.store.given_masks import read_given
from seven_bench.store.masks import write_masks
from seven_bench.store.packed import save_packed

MASKS = {  # in no alphabetical order
    "b.weight": torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.bool),
    "a.weight": torch.tensor([[0, 1, 1, 0, 0, 0, 0, 0, 1, 1]], dtype=torch.bool),
}
TYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
)  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_a_mask_is_the_same_in_every_type_and_order(tmp_path, kind):
    write_masks(MASKS, tmp_path / "ours.safetensors")
    ours = read_given(tmp_path / "ours.safetensors")
    assert ours.counts == (7, 16) and list(ours.masks.shapes) == ["a.weight", "b.weight"]
    tensors = {name: mask.to(kind) for name, mask in sorted(MASKS.items())}
    save_file(tensors, tmp_path / "theirs.safetensors")
    theirs = read_given(tmp_path / "theirs.safetensors")
    assert theirs.hash == ours.hash and theirs.record is None and not theirs.weights
    assert all(torch.from_numpy(theirs.mask(name)).equal(mask) for name, mask in MASKS.items())
    if kind.is_floating_point:
        signed = {name: torch.where(mask, 1.0, -0.0).to(kind) for name, mask in MASKS.items()}
        save_file(signed, tmp_path / "signed.safetensors")
        assert read_given(tmp_path / "signed.safetensors").hash == ours.hash


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_zeros_of_weights_are_a_mask(tmp_path, kind):
    weights = {name: torch.where(mask, 0.25, -0.0).to(kind) for name, mask in MASKS.items()}
    save_file({**weights, "ids": torch.arange(3)}, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        given = read_given(path)
        assert given.weights and given.file == tmp_path / "model.safetensors"
        assert all(torch.from_numpy(given.mask(name)).equal(mask) for name, mask in MASKS.items())
    assert "ids" not in given.masks.shapes
    (tmp_path / "model.safetensors").rename(tmp_path / "pruned.safetensors")
    with pytest.raises(ValueError, match=r"masks hold 0 and 1 alone; a file of weights, of which"):
        read_given(tmp_path / "pruned.safetensors")
    save_file(weights, tmp_path / "pruned.safetensors")
    with pytest.raises(ValueError, match=r"a\.weight holds 0\.25 at \[0, 1\]: masks hold 0 and 1"):
        read_given(tmp_path / "pruned.safetensors")


def test_a_packed_model_brings_its_masks(tmp_path):
    state = {name: mask.float() for name, mask in MASKS.items()}
    save_packed({**state, "bias": torch.zeros(2)}, MASKS, tmp_path / "packed.safetensors")
    write_masks(MASKS, tmp_path / "ours.safetensors")
    packed = read_given(tmp_path / "packed.safetensors")
    assert packed.hash == read_given(tmp_path / "ours.safetensors").hash


class Harm:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_what_is_no_mask_is_one_line_that_names_it(tmp_path):
    save_file({"w": torch.tensor([1.0, 2.0])}, tmp_path / "two.safetensors")
    save_file({"w": torch.tensor([3, 1], dtype=torch.uint8)}, tmp_path / "bool.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    (tmp_path / "pickled.safetensors").write_bytes(pickle.dumps(Harm()))
    torch.save(MASKS, tmp_path / "torch.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "status.json").write_text("{}")
    told = {
        "two.safetensors": r"w holds 2 at \[1\]: masks hold 0 and 1 alone",
        "bool.safetensors": r"w holds 3 at \[0\]",
        "none.safetensors": "it holds no tensors",
        "pickled.safetensors": "no safetensors file",
        "torch.safetensors": "no safetensors file",
        "empty": r"it has no result\.json, masks\.safetensors or model\.safetensors",
        "begun": "this run is not finished",
        "nowhere": "there is no such file or folder",
    }
    for name, words in told.items():
        with pytest.raises(ValueError, match=words) as caught:
            read_given(tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)
