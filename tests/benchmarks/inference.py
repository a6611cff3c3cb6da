"""What zeros buy: throughput with layers in the form that is fastest, bytes of the packed file."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from seven_bench.export.csr import choose, count_forms, make_onednn, make_sparse
from seven_bench.export.forms import has_onednn
from seven_bench.measure.latency import median_seconds
from seven_bench.pruning import MaskSet, prunable_parameters, prune
from seven_bench.store.packed import load_packed, save_packed
from tests.benchmarks.models import SHAPES
from tests.benchmarks.timing import Row, in_words

BATCH = 32
SPARSITIES = (0.8, 0.9, 0.95)


def rows() -> list[Row]:
    """Both shapes at three sparsities, magnitudes of random weights; then bytes at 0.9."""
    torch.set_num_threads(2)
    found, packed = [], []
    for shape in SHAPES:
        found += [_throughput(shape, sparsity) for sparsity in SPARSITIES]
        packed.append(_packed(shape))
    return [*found, *packed]


def _pruned(shape: str, sparsity: float) -> tuple[torch.nn.Module, MaskSet]:
    model = SHAPES[shape].build().eval()
    params = prunable_parameters(model)
    scores = {name: p.detach().abs() for name, p in params.items()}
    masks = prune(scores, MaskSet.ones(params), sparsity)
    masks.apply_({name: p.data for name, p in params.items()})
    return model, masks


def _throughput(shape: str, sparsity: float) -> Row:
    model, masks = _pruned(shape, sparsity)
    batch = SHAPES[shape].inputs(BATCH)

    def answer(m: torch.nn.Module) -> Callable[[], torch.Tensor]:
        return lambda: m(**batch).logits

    choices = choose(model, list(masks), answer(model))
    sparse = make_sparse(copy.deepcopy(model), choices)
    with torch.inference_mode():
        off = float((answer(sparse)() - answer(model)()).abs().max())
    if off > 1e-4:
        raise AssertionError(f"logits differ by {off}")
    ways = {"dense": answer(model), "chosen": answer(sparse)}
    if has_onednn():  # zeros have no part in it
        ways["onednn"] = answer(make_onednn(copy.deepcopy(model)))
    seconds = median_seconds(ways, repeats=7, warm=2)
    told = f"{in_words(seconds['chosen'])} ({count_forms(sparse)}), off by {off:.0e}"
    if "onednn" in seconds:
        told += f"; dense by oneDNN {in_words(seconds['onednn'])}"
    bound = {("BERT-base", 0.9): 1.3}.get((shape, sparsity), 1.0 if shape == "MiniLM" else None)
    return Row(
        f"inference, {shape}, batch {BATCH}, 64 tokens, sparsity {sparsity}: chosen forms / dense",
        seconds["dense"] / seconds["chosen"], "x", bound, False, told, in_words(seconds["dense"]),
    )  # fmt: skip


def _packed(shape: str) -> Row:
    model, masks = _pruned(shape, 0.9)
    weights = {name: model.get_parameter(name).detach() for name in masks}
    with tempfile.TemporaryDirectory() as folder:
        path = save_packed(weights, masks, Path(folder) / "packed.safetensors")
        size = path.stat().st_size
        state, _ = load_packed(path)
        if any(not torch.equal(state[name], weight) for name, weight in weights.items()):
            raise AssertionError("the packed file is not the model's")
    name = f"packed file, {shape}, sparsity 0.9: bytes / dense bytes of the prunable weights"
    return Row(name, size / (4 * masks.total), "", 0.15, True, f"{size / 1e6:.1f} MB")
