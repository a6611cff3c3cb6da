"""Mask sets: counting, applying, hashing; thresholds on many scores."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seven_bench.pruning import MaskSet, allocate, device, make_masks, prune, threshold
from seven_bench.pruning.fused import as_held
from seven_bench.pruning.threshold import find_cut, kth_largest, select_top, top_masks


def some_masks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (3, 5), "b.weight": (7, 9), "conv": (2, 3, 2, 2), "one": (1, 1)}
    return MaskSet({n: torch.rand(s, generator=generator) < 0.5 for n, s in shapes.items()})


def test_counting_by_hand():
    masks = MaskSet({"a": torch.tensor([[True, False], [True, True]]), "b": torch.zeros(1, 4) > 0})
    assert (masks.total, masks.kept, masks.sparsity) == (8, 3, 5 / 8)
    assert masks.empty_layers() == ["b"]
    assert masks.summary() == {"a": {"kept": 3, "total": 4}, "b": {"kept": 0, "total": 4}}
    assert MaskSet().sparsity == 0.0
    with pytest.raises(TypeError, match=r"mask of a is torch\.float32: masks are bool"):
        MaskSet({"a": torch.ones(2)})


def test_apply_zeroes_in_place_and_checks_names_and_shapes():
    masks = some_masks()
    tensors = {n: torch.ones(m.shape) for n, m in masks.items()}
    places = {n: t.data_ptr() for n, t in tensors.items()}
    masks.apply_(tensors)
    for n, t in tensors.items():
        assert torch.equal(t, masks[n].float()) and t.data_ptr() == places[n], n
    with pytest.raises(ValueError, match="differ in one"):
        masks.apply_({n: t for n, t in tensors.items() if n != "one"})
    with pytest.raises(ValueError, match=r"one differ in shape: \(1, 1\) and \(2,\)"):
        masks.apply_({**tensors, "one": torch.ones(2)})


@pytest.mark.parametrize("threads", [1, 8])
def test_masks_multiply_alike_however_often_they_are_used(threads):
    """Bit for bit weight x mask, signs of zeros too: with bools by numpy or torch, then numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = torch.Generator().manual_seed(0)
        weights = {name: torch.randn(5, 7, generator=generator) for name in "ab"}
        masks = MaskSet({name: weight > 0.3 for name, weight in weights.items()})
        for _ in range(6):
            found = {name: weight.clone() for name, weight in weights.items()}
            masks.multiply_(found)
            for name, weight in weights.items():
                expected = weight * masks[name]
                assert torch.equal(found[name].view(torch.int32), expected.view(torch.int32))
            part = {"b": weights["b"].t().double().t()}  # one name, another type, as it lies
            masks.multiply_(part)
            assert torch.equal(part["b"], weights["b"].double() * masks["b"])
    finally:
        torch.set_num_threads(before)


def test_hash_sees_bits_names_and_shapes():
    bits = torch.tensor([[True, False, True, True]])
    base = MaskSet({"a": bits}).hash()
    assert base == MaskSet({"a": bits.clone()}).hash()
    for other in ({"a": ~bits}, {"b": bits}, {"a": bits.view(2, 2)}, {"a": bits, "c": bits}):
        assert MaskSet(other).hash() != base, f"{other} has the same hash"


# The threshold.


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
@settings(max_examples=200, deadline=None)
def test_kth_largest_is_the_sorted_ones(values):
    scores = {"a": torch.tensor(values)}
    expected = sorted(values, reverse=True)
    for k in {1, len(values), (len(values) + 1) // 2}:
        found = kth_largest(scores, None, k)
        assert found == expected[k - 1], f"the {k}-th of {expected}"


def test_threshold_on_millions_of_scores_against_kthvalue():
    generator = torch.Generator().manual_seed(1)
    sizes = {"a": (1000, 1500), "b": (1200, 1100), "c": (700, 1)}
    kinds = {
        "distinct": lambda s: torch.randn(s, generator=generator),
        "half precision": lambda s: torch.randn(s, generator=generator).bfloat16().float(),
        "mostly zero": lambda s: torch.randn(s, generator=generator).relu().sub(1.5).relu(),
    }
    for kind, draw in kinds.items():
        scores = {n: draw(s) for n, s in sizes.items()}
        flat = torch.cat([s.flatten() for s in scores.values()])
        ones = MaskSet.ones(scores)
        for keep in (0.001, 0.1, 0.5, 0.999):
            k = round(keep * flat.numel())
            expected = float(flat.kthvalue(flat.numel() - k + 1).values)
            assert kth_largest(scores, None, k) == expected, f"{kind}, keep {keep}"
            made = make_masks(scores, ones, allocate(scores, ones, count=k))
            assert made.kept == k, f"{kind}: {made.kept} kept, {k} asked"
            above = sum(find_cut(scores, None, k).above.values())
            assert above <= k, "more lie above the threshold than are to be kept"
            for n, s in scores.items():
                assert bool(made[n][s > expected].all()), "one above the threshold went"
                assert not bool(made[n][s < expected].any()), "one below it was kept"


PEAK = """
import resource, torch
from seven_bench.pruning.threshold import kth_largest
torch.set_num_threads(1)
scores = {str(i): torch.rand(1 << 20) for i in range(32)}
kth_largest({"warm": scores["0"]}, None, 5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kth_largest(scores, None, 1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_threshold_takes_no_copy_of_the_scores():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    grown = int(done.stdout) / 1024
    assert grown < 32, f"the peak grew by {grown:.0f} MiB over 128 MiB of scores"


@pytest.mark.parametrize("n", [1, 7, 64, 1000, 40_001, 300_003])
@pytest.mark.parametrize("part", [0, 0.002, 0.6, 1])
def test_flagged_places(n, part):
    """Words of flags and words of words, and what is left over."""
    generator = torch.Generator().manual_seed(n)
    flags, other = (torch.rand(n, generator=generator) < part for _ in range(2))
    wanted = flags.nonzero()[:, 0].numpy()
    assert (threshold._flagged(flags.numpy()) == wanted).all()
    places = threshold.differing(flags.view(1, n), other.view(1, n))
    assert torch.equal(places, (flags ^ other).nonzero()[:, 0])


def test_one_pass_marks_what_several_do():
    """What is compiled of a selection, and what is not; what is not finite is marked as inside."""
    generator = torch.Generator().manual_seed(2)
    score = torch.randn(500, generator=generator)
    alive = torch.rand(500, generator=generator) < 0.7
    for low, high in ((-0.5, 0.5), (-math.inf, 0.1), (0.1, math.inf), (float(score[3]), 2.0)):
        flags = torch.empty(4, 500, dtype=torch.bool)
        threshold._mark(score, alive.numpy(), flags[0], flags[1], low, high)
        assert torch.equal(flags[0], (score >= high) & alive)
        assert torch.equal(flags[1], (score > low) & (score < high) & alive)
        numbers = as_held((low, high))
        row = [tensor.view(torch.uint8) for tensor in (alive, *flags[2:])]
        threshold.mark_update(score, *row, *numbers)
        assert torch.equal(flags[2:], flags[:2])
    score[:3] = torch.tensor([math.nan, math.inf, -math.inf])
    threshold.mark_update(score, *row, *numbers)
    assert flags[3, :3].all()


def test_compiled_code_selects_alike(monkeypatch):
    """Where a score that is not finite is inside, it is refused by name."""
    code = lambda *groups, constants: threshold.mark_update  # noqa: E731
    monkeypatch.setattr(threshold.MARK, "code", code)
    generator = torch.Generator().manual_seed(3)
    scores = {n: torch.randn(60, 50, generator=generator) for n in "ab"}
    living = MaskSet({n: torch.rand(60, 50, generator=generator) < 0.7 for n in scores})
    for k in (1, 700, living.kept):
        assert (
            MaskSet(top_masks(scores, living, k)).hash()
            == MaskSet(device.top_masks(scores, living, k)).hash()
        )
    scores["b"][7, 7] = -math.inf
    with pytest.raises(ValueError, match="scores of b are not finite"):
        top_masks(scores, living, 700)


def test_a_wrong_hint_changes_nothing():
    score = torch.tensor([[1.0, 2.0, 2.0, 3.0]])
    for hint in (None, -5.0, 0.0, 1.0, 2.0, 2.5, 3.0, 99.0):
        mask = select_top("w", score, torch.ones(1, 4) > 0, 2, hint)
        assert mask.tolist() == [[False, True, False, True]], f"hint {hint}"


def test_published_cuts_by_hand():
    scores = {"w": torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0, -2.0, 5.0]])}
    ones = MaskSet.ones(scores)
    # k = int(0.5 x 7) = 3: the threshold is 1, and all its ties stay
    made = prune(scores, ones, 0.5, cut="threshold")
    assert made["w"].int().tolist() == [[1, 1, 1, 1, 0, 0, 1]]
    assert prune(scores, ones, 0.5)["w"].int().tolist() == [[1, 1, 0, 0, 0, 0, 1]]
    made = prune(scores, ones, 0.2, cut="above_zero")
    assert made["w"].int().tolist() == [[1, 1, 1, 1, 0, 0, 1]]
