"""A record's efficiency: bytes that were written, MACs of one example."""

import torch
from safetensors.torch import save_file

from seven_bench.measure.efficiency import describe, efficiency
from seven_bench.pruning import MaskSet, prunable_parameters, prune
from seven_bench.testing.tiny import TinyModule, start, tiny_data


def test_bytes_are_those_of_files_and_macs_those_of_one_example(tmp_path):
    module = TinyModule(start("vit"), recipe=None)
    params = prunable_parameters(module.model)
    masks = prune({n: p.detach().abs() for n, p in params.items()}, MaskSet.ones(params), 0.9)
    masks.apply_({name: p.data for name, p in params.items()})
    path = tmp_path / "model.safetensors"
    save_file(module.model.state_dict(), path)
    one = tiny_data(0).example_batch(1)
    found = efficiency(module.model, module.logits, one, masks, path)
    sizes = found["bytes"]
    assert sizes["dense"] == path.stat().st_size
    assert max(sizes["packed"], sizes["zstd"]) < sizes["dense"]
    saved = masks.total * 4 - masks.kept * 4 - masks.total / 8  # and what the names of masks take
    assert abs(sizes["dense"] - sizes["packed"] - saved) < 2048
    tokens = 5  # four patches and the class token
    removed = masks.total - masks.kept
    assert found["macs"]["dense"] - found["macs"]["masked"] == tokens * removed
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]  # nothing is left behind


def test_shapes_in_words():
    prompts = {"input_ids": torch.ones(10, 7), "attention_mask": torch.ones(10, 7)}
    batch = {"pixel_values": torch.ones(1, 3, 8, 8), "prompts": prompts, "labels": torch.ones(1)}
    assert describe(batch) == "pixel_values 1x3x8x8, prompts input_ids 10x7"
