"""What whole units buy: latency without half the heads and half the neurons, beside dense."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch

from seven_bench.export.smaller import make_smaller, units_left
from seven_bench.measure.latency import Seconds, time_in_turns
from seven_bench.pruning import MaskSet, prune
from seven_bench.pruning.structure import CoupledBiases, structure_of, structured_parameters
from tests.benchmarks.models import SHAPES, TOKENS, Shape
from tests.benchmarks.timing import Row, in_words

THREADS = 2
REPEATS = {1: 31, 32: 9}  # by batch size


def rows() -> list[Row]:
    """MiniLM's and BERT-base's shape, batch 1 and 32, `TOKENS` tokens, random weights."""
    torch.set_num_threads(THREADS)
    return [row for name, shape in SHAPES.items() for row in _ratios(name, shape)]


def _ratios(name: str, shape: Shape) -> list[Row]:
    dense = shape.build().eval()
    structure = structure_of(dense, "head_neuron")
    params = structured_parameters(dense, structure)
    scores = {n: p.detach().abs() for n, p in params.items()}
    masks = prune(scores, MaskSet.ones(params), 0.5, "uniform", structure)
    masks.apply_({n: p.data for n, p in params.items()})
    CoupledBiases(dense, structure).apply_(masks)
    small = copy.deepcopy(dense)
    module: Any = SimpleNamespace(model=small, logits=lambda model, batch: model(**batch).logits)
    counts = make_smaller(module, structure, units_left(structure, masks), shape.inputs(2))
    heads, neurons = (
        next(n for group, n in counts.items() if group.endswith(kind))
        for kind in ("head", "neuron")
    )
    if (2 * heads, 2 * neurons) != (shape.heads, shape.inner):
        raise AssertionError(f"{counts} are not half")
    found = []
    for batch, repeats in REPEATS.items():
        inputs = shape.inputs(batch)
        ways = {
            "dense": lambda inputs=inputs: dense(**inputs).logits,
            "smaller": lambda inputs=inputs: small(**inputs).logits,
        }
        with torch.inference_mode():
            off = float((ways["smaller"]() - ways["dense"]()).abs().max())
        if off > 1e-5:
            raise AssertionError(f"logits differ by {off}")
        seconds = time_in_turns(ways, repeats, warm=2)
        ratio = seconds["dense"].median / seconds["smaller"].median
        found.append(
            Row(
                f"inference, {name}, batch {batch}, {TOKENS} tokens, {THREADS} threads, half the "
                "heads and neurons: smaller / dense",
                ratio, "x", 1.7 if batch == 32 else None, False,
                f"{_spread(seconds['smaller'])}, off by {off:.0e}", _spread(seconds["dense"]),
            )
        )  # fmt: skip
    return found


def _spread(seconds: Seconds) -> str:
    return f"{in_words(seconds.median)} ({in_words(seconds.low)} to {in_words(seconds.high)})"
