"""Sparse layers: the same answers, chosen by what was measured, a file that loads."""

import copy

import pytest
import torch
from torch import nn

from seven_bench.export.csr import (
    Choice,
    SparseLinear,
    choose,
    load_sparse,
    make_sparse,
    save_sparse,
)
from seven_bench.measure.latency import Seconds
from seven_bench.store.masks import write_masks
from tests.store.test_packed import pruned


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 70)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 32, 1000])
def test_a_sparse_layer_answers_as_a_dense_one(shape, bias, chunk):
    torch.manual_seed(0)
    layer = nn.Linear(24, 10, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(torch.rand_like(layer.weight) > 0.8)
        layer.weight[3] = 0  # a row of nothing
        value = torch.randn(*shape, 24)
        found = SparseLinear(layer.weight, layer.bias, chunk)(value)
        torch.testing.assert_close(found, layer(value), rtol=1e-5, atol=1e-6)


def ids():
    return torch.arange(48).remainder(20).view(8, 6)


def forced(masks, chunk=32) -> list[Choice]:
    """Every layer sparse, whatever it costs."""
    return [Choice(name, 48, took(1.0), took(0.1), chunk) for name in masks]


def took(median: float, spread: float = 0.0) -> Seconds:
    return Seconds(median, median - spread, median + spread)


def test_layers_are_measured_on_what_they_are_fed():
    model, masks = pruned("bert")
    model.eval()
    choices = choose(model, list(masks), lambda: model(input_ids=ids()), repeats=2)
    assert [choice.name for choice in choices] == list(masks)
    assert {choice.rows for choice in choices} == {48}
    assert all(min(c.dense.low, c.sparse.low) > 0 for c in choices)


def test_only_what_is_clearly_faster_is_replaced():
    model, masks = pruned("bert")
    first, second, third, *_ = masks
    slow = Choice(second, 48, took(1.0), took(0.99), 32)
    varying = Choice(third, 48, took(1.0, 0.3), took(0.6, 0.2), 32)  # 0.8 against 0.7
    make_sparse(model, [Choice(first, 48, took(1.0, 0.1), took(0.5, 0.1), 32), slow, varying])
    kinds = {
        name: type(model.get_submodule(name.removesuffix(".weight")))
        for name in (first, second, third)
    }
    assert kinds == {first: SparseLinear, second: nn.Linear, third: nn.Linear}


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_a_saved_sparse_model_loads_and_answers_the_same(name, tmp_path):
    model, masks = pruned(name)
    model.eval()
    inputs = ids() if name == "bert" else torch.randn(4, 1, 8, 8)
    plain = copy.deepcopy(model)
    sparse = make_sparse(copy.deepcopy(model), forced(masks))
    path = save_sparse(sparse, tmp_path / "csr.safetensors")
    loaded = load_sparse(copy.deepcopy(model), path)

    def answer(m):
        with torch.inference_mode():
            found = m(inputs)
            return found if torch.is_tensor(found) else found.logits

    torch.testing.assert_close(answer(sparse), answer(plain), rtol=1e-4, atol=1e-5)
    assert torch.equal(answer(loaded), answer(sparse))
    assert sum(isinstance(m, SparseLinear) for m in loaded.modules()) == len(masks)


def test_a_file_of_another_kind_is_refused(tmp_path):
    model, masks = pruned("vit")
    write_masks(masks, tmp_path / "masks.safetensors")
    with pytest.raises(ValueError, match=r"its format is not seven_bench\.csr"):
        load_sparse(model, tmp_path / "masks.safetensors")
