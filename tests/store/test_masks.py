"""Mask files: round trips, the documented layout, equal bytes, damage told; one parser."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from seven_bench.pruning import MaskSet
from seven_bench.store.masks import PackedMasks, load_masks, read_masks, write_masks


def some_masks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (3, 5), "b.weight": (7, 9), "conv": (2, 3, 2, 2), "one": (1, 1)}
    return {n: torch.rand(s, generator=generator) < 0.5 for n, s in shapes.items()}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_files_give_back_what_was_saved(tmp_path_factory, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = {f"p{i}": torch.rand(n, 3, generator=generator) < 0.5 for i, n in enumerate(sizes)}
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    write_masks(masks, path)
    loaded = load_masks(path)
    assert list(loaded) == list(masks), "another order"
    assert all(torch.equal(loaded[n], masks[n]) for n in masks)
    assert read_masks(path).hash() == PackedMasks.of(masks).hash() == MaskSet(masks).hash()
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a partial file is left"


def test_the_file_is_as_documented(tmp_path):
    row = [True, False, False, True, False, False, False, False, True]
    write_masks({"w": torch.tensor([row])}, tmp_path / "m")
    assert load_file(tmp_path / "m")["w"].tolist() == [0b1001, 0b1]
    found = read_masks(tmp_path / "m")
    assert found.shapes == {"w": (1, 9)} and found.bits["w"].tolist() == [0b1001, 0b1]


def test_equal_masks_make_equal_files(tmp_path):
    """Also in another process: safetensors itself orders metadata at random."""
    code = """import sys, torch
from seven_bench.store.masks import write_masks
bits = torch.tensor([[True, False]])
write_masks({"w": bits, 'é"': bits}, sys.argv[1])"""
    files = [tmp_path / str(number) for number in range(3)]
    for path in files:
        subprocess.run([sys.executable, "-c", code, path], check=True)
    first, *others = (path.read_bytes() for path in files)
    assert all(other == first for other in others)
    assert sum(int(mask.sum()) for mask in load_masks(files[0]).values()) == 2


def test_they_are_read_without_torch(tmp_path):
    write_masks(some_masks(), tmp_path / "m")
    code = """import sys
from seven_bench.store.masks import read_masks
print(read_masks(sys.argv[1]).hash(), "torch" in sys.modules)"""
    command = [sys.executable, "-c", code, tmp_path / "m"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [PackedMasks.of(some_masks()).hash(), "False"]


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "masks.safetensors"
    masks = some_masks()
    write_masks(masks, path)
    whole = path.read_bytes()

    def refused(match):
        for read in (read_masks, load_masks):
            with pytest.raises(ValueError, match=match) as caught:
                read(path)
            assert str(path) in str(caught.value), "the message does not name the file"
            assert "\n" not in str(caught.value)

    path.write_bytes(whole[:-1])
    refused("masks.safetensors")
    path.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
    refused("do not fit")
    path.write_bytes(b"")
    refused("masks.safetensors")
    save_file({"a": torch.zeros(2)}, path)
    refused("its format is not seven_bench.masks")
    packed = PackedMasks.of(masks)
    bits = {name: torch.from_numpy(part) for name, part in packed.bits.items()}
    metadata = packed.metadata("seven_bench.masks/1")
    save_file(bits, path, {**metadata, "hash": "0" * 64})
    refused("do not fit their hash")
    shapes = {name: [9, 9] for name in bits}
    save_file(bits, path, {**metadata, "shapes": json.dumps(shapes)})
    refused("do not fit the shape")
    save_file(bits, path, {**metadata, "shapes": json.dumps({"a.weight": [3, 5]})})
    refused("not those that it states")
    for odd in ("[]", "{", '{"a.weight": 3}', '{"a.weight": [-1]}', '{"a.weight": [1e9]}'):
        save_file(bits, path, {**metadata, "shapes": odd})
        refused("masks.safetensors")
    with pytest.raises(FileNotFoundError):
        read_masks(tmp_path / "nowhere")
