"""Layers in other forms: the same answers, chosen by what was measured, a file that loads."""

import copy
import dataclasses
import json

import pytest
import torch
from torch import nn

from seven_bench.export.csr import (
    Choice,
    choose,
    count_forms,
    load_sparse,
    make_onednn,
    make_sparse,
    save_sparse,
    shorten_names,
    stored_forms,
    tell_choices,
)
from seven_bench.export.forms import (
    CompactLinear,
    OneDnnLinear,
    SparseLinear,
    candidates,
    has_onednn,
    make_form,
)
from seven_bench.measure.latency import Seconds
from seven_bench.store.masks import write_masks
from seven_bench.store.tensors import read_tensors, write_tensors
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


@pytest.mark.parametrize("shape", [(7,), (3, 5), (0, 5)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out", [[], [3], [0, 3, 9], list(range(10))])
@pytest.mark.parametrize("columns", [[], [2, 3, 17], list(range(24))])
def test_a_compacted_layer_answers_as_a_dense_one(shape, bias, out, columns):
    torch.manual_seed(0)
    layer = nn.Linear(24, 10, bias=bias)
    with torch.no_grad():
        keep = torch.zeros(10, 24, dtype=torch.bool)
        keep[torch.tensor(out, dtype=torch.long)[:, None], torch.tensor(columns).long()] = True
        layer.weight.mul_(keep)
        value = torch.randn(*shape, 24)
        compact = make_form("compacted", layer)
        assert compact.weight.shape == ((len(out), len(columns)) if out and columns else (0, 0))
        torch.testing.assert_close(compact(value), layer(value), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not has_onednn(), reason="torch without oneDNN")
def test_onednn_answers_as_a_dense_one_and_keeps_its_state_dict():
    model, _ = pruned("bert")
    model.eval()
    other = make_onednn(copy.deepcopy(model))
    kinds = {type(m) for m in other.modules() if isinstance(m, nn.Linear)}
    assert kinds == {OneDnnLinear}
    assert list(other.state_dict()) == list(model.state_dict())
    with torch.inference_mode():
        found, wanted = other(input_ids=ids()).logits, model(input_ids=ids()).logits
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_layer_is_compacted_only_where_a_row_or_column_is_empty():
    layer = nn.Linear(6, 4)
    assert "compacted" not in {form for form, _ in candidates(layer, 100)}
    assert [chunk for form, chunk in candidates(layer, 100) if form == "csr"] == [32, 64]
    with torch.no_grad():
        layer.weight[2] = 0
    found = candidates(layer, 100)["compacted", 0]
    assert found.rows.tolist() == [0, 1, 3] and found.columns.tolist() == list(range(6))
    with pytest.raises(ValueError, match="form 'runes', which this version does not know"):
        make_form("runes", layer)


def ids():
    return torch.arange(48).remainder(20).view(8, 6)


FORMS = ("csr", "compacted", "onednn")


def choice(name, dense, best, form="csr", chunk=32) -> Choice:
    return Choice(name, 48, dense, best, form, chunk, {"dense": dense, form: best})


def forced(masks, forms=("csr",)) -> list[Choice]:
    """Every layer in another form, whatever it costs."""
    return [
        choice(name, took(1.0), took(0.1), forms[at % len(forms)]) for at, name in enumerate(masks)
    ]


def took(median: float, spread: float = 0.0) -> Seconds:
    return Seconds(median, median - spread, median + spread)


def test_layers_are_measured_on_what_they_are_fed():
    model, masks = pruned("bert")
    model.eval()
    choices = choose(model, list(masks), lambda: model(input_ids=ids()), repeats=2)
    assert [choice.name for choice in choices] == list(masks)
    assert {choice.rows for choice in choices} == {48}
    assert all(min(c.dense.low, c.best.low) > 0 for c in choices)
    assert all(c.form in c.tried and c.tried.keys() <= {"dense", *FORMS} for c in choices)


def test_only_what_is_clearly_faster_is_replaced():
    model, masks = pruned("bert")
    first, second, third, *_ = masks
    slow = choice(second, took(1.0), took(0.99))
    varying = choice(third, took(1.0, 0.3), took(0.6, 0.2))  # 0.8 against 0.7
    make_sparse(model, [choice(first, took(1.0, 0.1), took(0.5, 0.1)), slow, varying])
    kinds = {
        name: type(model.get_submodule(name.removesuffix(".weight")))
        for name in (first, second, third)
    }
    assert kinds == {first: SparseLinear, second: nn.Linear, third: nn.Linear}


def test_rows_of_zeros_are_cut_where_that_is_faster():
    """A layer of which 1 row in 64 lives does 1/64 of the work: no machine takes as long for it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024)).requires_grad_(False)
    model[0].weight[torch.arange(1024) % 64 != 0] = 0
    value = torch.randn(256, 512)
    (found,) = choose(model, ["0.weight"], lambda: model(value), repeats=5)
    assert found.tried["compacted"].median < found.tried["dense"].median
    (entry,) = tell_choices([found])
    assert (entry["layers"], entry["count"], entry["rows"]) == ("0", 1, 256)
    assert entry["form"] == found.taken
    assert entry["compacted_low"] <= entry["compacted"] <= entry["compacted_high"]


def test_what_was_measured_once_is_told_once():
    once = choice("layers.0.query.weight", took(1.0, 0.1), took(0.5, 0.1), "compacted", 0)
    same = dataclasses.replace(once, name="layers.1.query.weight")
    told = tell_choices([once, same, choice("layers.0.out.weight", took(1.0), took(1.0))])
    assert told == [
        {
            "layers": "layers.0-1.query", "count": 2, "rows": 48, "form": "compacted",
            "dense": 1.0, "dense_low": 0.9, "dense_high": 1.1,
            "compacted": 0.5, "compacted_low": 0.4, "compacted_high": 0.6,
        },
        {
            "layers": "layers.0.out", "count": 1, "rows": 48, "form": "dense",
            "dense": 1.0, "dense_low": 1.0, "dense_high": 1.0,
            "csr": 1.0, "csr_low": 1.0, "csr_high": 1.0,
        },
    ]  # fmt: skip
    assert [entry["form"] for entry in tell_choices([once], changed=False)] == ["dense"]


def test_names_of_layers_are_told_together():
    names = ["a.0.q", "a.1.q", "a.0.k", "a.3.q", "a.2.k", "head", "fc1", "2"]
    assert shorten_names(names) == "a.0-1,3.q, a.0,2.k, head, fc1, 2"


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_a_saved_sparse_model_loads_and_answers_the_same(name, tmp_path):
    model, masks = pruned(name)
    model.eval()
    for weight in masks:
        model.get_parameter(weight).data[::2] = 0
    inputs = ids() if name == "bert" else torch.randn(4, 1, 8, 8)
    plain = copy.deepcopy(model)
    sparse = make_sparse(copy.deepcopy(model), forced(masks, FORMS))
    path = save_sparse(sparse, tmp_path / "csr.safetensors")
    loaded = load_sparse(copy.deepcopy(model), path)

    def answer(m):
        with torch.inference_mode():
            found = m(inputs)
            return found if torch.is_tensor(found) else found.logits

    torch.testing.assert_close(answer(sparse), answer(plain), rtol=1e-4, atol=1e-5)
    assert torch.equal(answer(loaded), answer(sparse))
    kinds = [type(m) for m in loaded.modules()]
    counts = {kind.form: kinds.count(kind) for kind in (SparseLinear, CompactLinear, OneDnnLinear)}
    assert sum(counts.values()) == len(masks) and min(counts.values()) >= len(masks) // 3
    assert count_forms(loaded) == count_forms(sparse) and f"{counts['csr']} csr" in count_forms(
        sparse
    )
    assert stored_forms(path) == sorted(FORMS)
    alone = load_sparse(copy.deepcopy(model), path, forms=["compacted"])
    assert {type(m) for m in alone.modules()} & {SparseLinear, OneDnnLinear} == set()
    assert sum(isinstance(m, CompactLinear) for m in alone.modules()) == counts["compacted"]
    torch.testing.assert_close(answer(alone), answer(plain), rtol=1e-4, atol=1e-5)


def test_a_file_from_when_all_its_layers_were_csr_loads(tmp_path):
    model, masks = pruned("vit")
    path = save_sparse(make_sparse(copy.deepcopy(model), forced(masks)), tmp_path / "a.safetensors")
    with read_tensors(path) as (tensors, metadata):
        layers = json.loads(metadata["layers"])
        for told in layers.values():
            del told["form"]
        old = write_tensors(
            tensors, tmp_path / "b.safetensors", {**metadata, "layers": json.dumps(layers)}
        )
    loaded = load_sparse(copy.deepcopy(model), old)
    assert sum(isinstance(m, SparseLinear) for m in loaded.modules()) == len(masks)


def test_a_file_of_another_kind_is_refused(tmp_path):
    model, masks = pruned("vit")
    write_masks(masks, tmp_path / "masks.safetensors")
    with pytest.raises(ValueError, match=r"its format is not seven_bench\.csr"):
        load_sparse(model, tmp_path / "masks.safetensors")
