"""The masks that a GPU makes are the CPU's, tie for tie; how often the host waits for them."""

from __future__ import annotations

import pytest
import torch

from seven_bench.pruning import Counts, MaskSet, allocate, make_masks, prune
from seven_bench.pruning.threshold import find_cut, kth_largest
from tests.gpu.waits import host_waits
from tests.pruning.test_allocate import VALID

# block means are sums of few multiples of 1/256: exact in float32, in whatever order they are taken
KINDS = {
    "coarse": lambda shape, g: torch.randint(-2048, 2048, shape, generator=g) / 256,
    "few values": lambda shape, g: torch.randint(-2, 3, shape, generator=g).float(),
    "half zeros": lambda shape, g: torch.randint(-9, 9, shape, generator=g).clamp(min=0).float(),
    "all equal": lambda shape, g: torch.full(shape, -3.25),
    "minus zero": lambda shape, g: (
        torch.zeros(shape) * (torch.randint(0, 2, shape, generator=g) - 0.5)
    ),
}
LARGE = {
    "distinct": lambda shape, g: torch.rand(shape, generator=g) ** 4,
    "normal": lambda shape, g: torch.randn(shape, generator=g),
    "50 values": lambda shape, g: torch.rand(shape, generator=g).mul_(50).ceil_(),
    "half zeros": lambda shape, g: torch.rand(shape, generator=g).sub_(0.5).clamp_(min=0),
    "tiny": lambda shape, g: torch.randn(shape, generator=g) * 1e-42,
}
LAYERS = [*[(768, 768)] * 4, (3072, 768), (768, 3072), (129, 1001)]


def drawn(kind, shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {f"p{i}": kind(shape, generator) for i, shape in enumerate(shapes)}


def there(tensors):
    return {name: tensor.cuda() for name, tensor in tensors.items()}


def same(on_gpu, on_cpu) -> bool:
    return list(on_gpu) == list(on_cpu) and all(
        mask.is_cuda and mask.shape == on_cpu[name].shape and torch.equal(mask.cpu(), on_cpu[name])
        for name, mask in on_gpu.items()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "pattern"), VALID)
def test_every_pattern_and_distribution(mode, pattern, kind):
    scores = drawn(KINDS[kind], [(64, 96), (32, 96), (96, 64), (64, 96)])
    masks = MaskSet.ones(scores)
    for sparsity in (0.25, 0.5) if pattern.startswith("nm") else (0.3, 0.75, 0.97):
        gpu_masks = MaskSet(there(masks))
        found = prune(there(scores), gpu_masks, sparsity, mode, pattern)
        masks = prune(scores, masks, sparsity, mode, pattern)
        assert same(found, masks), f"{mode} x {pattern} at {sparsity}"
        assert found.hash() == masks.hash() and found.kept == masks.kept


@pytest.mark.parametrize("kind", LARGE)
def test_large_ones_and_their_ties(kind):
    scores, masks = drawn(LARGE[kind], LAYERS), None
    given, gpu_masks = there(scores), None
    masks, gpu_masks = MaskSet.ones(scores), MaskSet.ones(given)
    for sparsity in (0.0, 0.1, 0.5, 0.9, 0.9995):
        kept = masks.total - round(sparsity * masks.total)
        assert find_cut(given, gpu_masks, kept) == find_cut(scores, masks, kept)
        assert kth_largest(given, gpu_masks, kept) == kth_largest(scores, masks, kept)
        masks, gpu_masks = prune(scores, masks, sparsity), prune(given, gpu_masks, sparsity)
        assert gpu_masks.kept == kept and same(gpu_masks, masks), sparsity
        counts = allocate(given, gpu_masks, count=kept)
        assert same(make_masks(given, gpu_masks, Counts(counts)), masks), sparsity


def test_half_precision_scores_compete_in_float32():
    scores = drawn(LARGE["normal"], LAYERS[:6])
    halves = {name: score.bfloat16() for name, score in scores.items()}
    assert same(
        prune(there(halves), MaskSet.ones(there(halves)), 0.9),
        prune(halves, MaskSet.ones(halves), 0.9),
    )


def test_what_cannot_be_is_said():
    scores = there(drawn(LARGE["normal"], LAYERS[:3]))
    scores["p1"][5, 5] = torch.nan
    with pytest.raises(ValueError, match="scores of p1 are not finite"):
        prune(scores, MaskSet.ones(scores), 0.5)
    with pytest.raises(ValueError, match="scores of p1 are not finite"):
        prune(scores, MaskSet.ones(scores), 0.5, "uniform", "nm_2_4")


@pytest.mark.parametrize(
    ("kind", "mode", "most"),
    [
        ("distinct", "global", 1),
        ("50 values", "global", 3),
        ("half zeros", "global", 3),
        ("distinct", "uniform", 3),
    ],
)
def test_the_host_waits_as_often_whatever_the_tensors(kind, mode, most):
    for layers in (LAYERS[:3], LAYERS * 5):
        scores = there(drawn(LARGE[kind], layers))
        masks = MaskSet.ones(scores)
        assert host_waits(lambda s=scores, m=masks: prune(s, m, 0.9, mode)) <= most
    torch.cuda.synchronize()
    assert host_waits(lambda: scores["p0"].sum().item()) == 1  # they are counted


def test_two_streams_and_two_times():
    """Work on one stream does not disturb the other's; a second time gives the same bits."""
    problems = [there(drawn(LARGE[kind], LAYERS)) for kind in ("distinct", "50 values")]
    wanted = [prune(scores, MaskSet.ones(scores), 0.9).hash() for scores in problems]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    for _ in range(3):
        found = []
        for scores, stream in zip(problems, streams, strict=True):
            with torch.cuda.stream(stream):
                found.append(prune(scores, MaskSet.ones(scores), 0.9))
        torch.cuda.synchronize()
        assert [masks.hash() for masks in found] == wanted
