"""An update of the second-order methods on as many weights as MiniLM's encoder has, 10.6M.

The gradients and the products of inputs are given; what computing those takes, the bill says.
"""

from __future__ import annotations

import time
from itertools import pairwise

import torch
from torch import Tensor

from seven_bench.baselines.obert import ObertScore
from seven_bench.baselines.sparsegpt import SparseGptScore
from seven_bench.pruning import MaskSet, Observation, Params, Score, prune
from tests.benchmarks.models import SHAPES
from tests.benchmarks.timing import Row, in_words, peak_memory

SPARSITY = 0.8
GRADIENTS = 256


def _drawn(generator: torch.Generator, scale: float) -> Params:
    """Values in the shapes of MiniLM's encoder."""
    shape = SHAPES["MiniLM"]
    inner = [(shape.inner, shape.width), (shape.width, shape.inner)]
    shapes = ([(shape.width, shape.width)] * 4 + inner) * shape.depth
    return {str(i): scale * torch.randn(s, generator=generator) for i, s in enumerate(shapes)}


def _gram(size: int, generator: torch.Generator) -> Tensor:
    inputs = torch.randn(2 * size, size, generator=generator)
    return inputs.T @ inputs


def _update(score: Score, params: Params, distribution: str) -> str:
    """Scores, selects, updates; the seconds of each, in words."""
    ones, times = MaskSet.ones(params), [time.perf_counter()]
    scores = score.scores(params, ones)
    times.append(time.perf_counter())
    masks = prune(scores, ones, SPARSITY, distribution)
    times.append(time.perf_counter())
    if score.update_weights(params, ones, masks) is None:
        raise AssertionError("the weights were left alone")
    times.append(time.perf_counter())
    scored, chosen, answered = (b - a for a, b in pairwise(times))
    return f"scores {in_words(scored)}, masks {in_words(chosen)}, weights {in_words(answered)}"


def rows() -> list[Row]:
    """Seconds and memory of oBERT, seconds of SparseGPT; threads as torch has them, 2."""
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    params, found = _drawn(generator, 0.05), []
    weights = sum(p.numel() for p in params.values())
    grads = [_drawn(generator, 1e-3) for _ in range(4)]
    before, began = peak_memory(anew=True), time.perf_counter()
    score = ObertScore()
    score.reset(params)
    for step in range(GRADIENTS):
        score.observe(Observation(params, grads[step % len(grads)], {}, step))
    gathered = time.perf_counter() - began
    words = f"{GRADIENTS} gradients {in_words(gathered)}, {_update(score, params, 'global')}"
    name = f"oBERT update, {weights / 1e6:.1f}M weights, {GRADIENTS} gradients, blocks of 50"
    found.append(Row(name, time.perf_counter() - began, "s", 30, True, words))
    extra = (peak_memory() - before) / weights
    found.append(Row("oBERT update: extra memory, bytes a weight", extra, "B", 300))
    del score, grads
    began = time.perf_counter()
    layers = SparseGptScore()
    layers.reset(params)
    grams = {name: _gram(p.shape[1], generator) for name, p in params.items()}
    seen = {"grams": grams}
    layers.observe(Observation(params, {}, {}, 0, sparsity=SPARSITY, supplied=seen))
    began = time.perf_counter()
    words = _update(layers, params, "uniform")
    name = f"SparseGPT update, {weights / 1e6:.1f}M weights"
    return [*found, Row(name, time.perf_counter() - began, "s", None, True, words)]
