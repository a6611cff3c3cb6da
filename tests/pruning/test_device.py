"""What a GPU would do, without one: the same functions on a CPU, and on torch's fake CUDA tensors.

A fake tensor has a shape and no values: whoever reads one anywhere but in `device.read` fails.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from seven_bench.baselines.magnitude import MagnitudeScore
from seven_bench.baselines.movement import MovementScore
from seven_bench.baselines.platon import PlatonScore
from seven_bench.baselines.rigl import RiglScore
from seven_bench.baselines.snip import SnipScore
from seven_bench.baselines.soft_movement import SoftMovementScore
from seven_bench.baselines.taylor import TaylorScore
from seven_bench.pruning import (
    MaskSet,
    Observation,
    SevenScore,
    allocate,
    device,
    make_masks,
    prune,
    threshold,
)
from seven_bench.pruning.threshold import find_cut, top_masks
from tests.pruning.test_allocate import VALID, VALUES, ordered, problems

GPU = "cuda"


@pytest.fixture
def everything_there(monkeypatch):
    """Whatever lies on the CPU takes the way of a GPU."""
    monkeypatch.setattr(device, "on_gpu", lambda tensors: True)


def same(one, other) -> bool:
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


@given(problems(), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_the_masks_are_the_best_in_order(problem, part):
    """Against the ten-line order: ties by (parameter order, flat index)."""
    scores, masks = problem
    k = max(1, round(part * masks.kept))
    if not masks.kept:
        for select in (device.top_masks, top_masks):
            with pytest.raises(ValueError, match="cannot keep 1 weights: 0 live"):
                select(scores, masks, k)
        return
    wanted = {n: torch.zeros_like(m) for n, m in masks.items()}
    for name, index in ordered(scores, masks)[:k]:
        wanted[name].view(-1)[index] = True
    assert same(device.top_masks(scores, masks, k), wanted)
    assert same(top_masks(scores, masks, k), wanted)
    counts = allocate(scores, masks, count=k)
    assert same(device.best_of_each(scores, masks, counts), wanted)
    cut = find_cut(scores, masks, k)
    assert device.cut(scores, masks, k) == (cut.value, cut.above, cut.ties)
    assert device.kth_value(scores, masks, k) == cut.value


KINDS = {
    "normal": lambda g: torch.randn(300_000, generator=g),
    "50 values": lambda g: torch.randint(0, 50, (300_000,), generator=g).float(),
    "half zeros": lambda g: torch.rand(300_000, generator=g).sub_(0.5).clamp_(min=0),
    "one value": lambda g: torch.ones(300_000),
    # every sampled place holds 0: the bracket misses, and the value is found by halving
    "hidden": lambda g: torch.rand(300_000, generator=g).where(torch.arange(300_000) % 11 > 0, 0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize("piece", [1 << 27, 70_000])
def test_many_scores(monkeypatch, kind, density, piece):
    """Sampled brackets, shared values and halving; in one piece and in several."""
    monkeypatch.setattr(device, "PIECE", piece)
    monkeypatch.setattr(device, "SAMPLE", 300_000 // 11)
    monkeypatch.setattr(device, "MOST_INSIDE", 1 << 14)
    monkeypatch.setattr(threshold, "SAMPLE", 300_000 // 11)
    monkeypatch.setattr(threshold, "MOST_INSIDE", 1 << 14)
    monkeypatch.setattr(threshold, "CHUNK", 50_000)
    monkeypatch.setattr(threshold, "FEW_THREADS", 0 if piece == 70_000 else 99)
    generator = torch.Generator().manual_seed(3)
    flat = KINDS[kind](generator)
    sizes = [60_000, 64, 99_936, 140_000]
    scores = dict(zip("abcd", flat.split(sizes), strict=True))
    living = MaskSet(
        {n: torch.rand(s.shape, generator=generator) < density for n, s in scores.items()}
    )
    order = flat.where(torch.cat(list(living.values())), -torch.inf).argsort(
        descending=True, stable=True
    )
    for k in (1, 17, living.kept // 10, living.kept // 2, living.kept - 3, living.kept):
        wanted = torch.zeros(300_000, dtype=torch.bool)
        wanted[order[:k]] = True
        for select in (device.top_masks, top_masks):
            found = select(scores, living, k)
            assert torch.equal(torch.cat(list(found.values())), wanted), (select, k)


def test_a_score_that_is_not_finite_is_named():
    scores = {"a": torch.ones(4), "b": torch.tensor([1.0, torch.nan])}
    huge = {"a": torch.full((4,), 3e38)}  # their sum overflows, they do not
    for select in (device.top_masks, top_masks):
        with pytest.raises(ValueError, match="scores of b are not finite"):
            select(scores, MaskSet.ones(scores), 2)
        assert MaskSet(select(huge, MaskSet.ones(huge), 2)).kept == 2


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(("mode", "pattern"), VALID)
def test_every_pattern_takes_the_way_of_a_gpu(request, mode, pattern, kind):
    generator = torch.Generator().manual_seed(1)
    scores = {n: VALUES[kind]((16, 24), generator) for n in "abc"}
    living = MaskSet.ones(scores)
    sparsity = 0.5 if pattern.startswith("nm") else 0.7
    wanted = prune(scores, living, sparsity, mode, pattern)
    request.getfixturevalue("everything_there")
    assert same(prune(scores, living, sparsity, mode, pattern), wanted)


def test_side_by_side_is_joined_without_a_copy():
    tensors = device.side_by_side({"a": torch.rand(3, 4), "b": torch.rand(5)})
    whole = device.joined(list(tensors.values()))
    assert whole.data_ptr() == tensors["a"].data_ptr() and whole.shape == (17,)
    assert torch.equal(whole[12:], tensors["b"])
    apart = [torch.rand(3), torch.rand(4)]
    assert torch.equal(device.joined(apart), torch.cat(apart))
    turned = [tensors["b"], tensors["a"]]
    assert torch.equal(device.joined(turned), torch.cat([t.reshape(-1) for t in turned]))


# -- fake CUDA tensors -----------------------------------------------------------------------------


class Replayed:
    """What the host read in a run with values, given again to one without."""

    def __init__(self, monkeypatch) -> None:
        self.told: list[list[float]] = []
        self.plain = device.read
        self.patch = monkeypatch

    def record(self) -> None:
        self.patch.setattr(device, "on_gpu", lambda tensors: True)
        self.patch.setattr(device, "read", self._keep)

    def _keep(self, values):
        self.told.append(self.plain(values))
        return self.told[-1]

    def replay(self) -> None:
        self.patch.setattr(device, "on_gpu", lambda t: any(x.is_cuda for x in t.values()))
        self.patch.setattr(device, "address", id)  # a fake tensor has none
        told = iter(self.told)

        def read(values):
            found = next(told)
            assert sum(value.numel() for value in values) == len(found)
            return found

        self.patch.setattr(device, "read", read)


@pytest.fixture
def replayed(monkeypatch):
    return Replayed(monkeypatch)


def fake(tensors, mode):
    with mode:
        return {n: torch.empty(t.shape, dtype=t.dtype, device=GPU) for n, t in tensors.items()}


def test_a_fake_tensor_cannot_be_read():
    """What the tests below stand on."""
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.ones(3, device=GPU).sum().tolist()


SHAPES = [(16, 24), (64, 24), (16, 24)]  # rows of one width: others are laid out on the CPU


@pytest.mark.parametrize(
    ("mode", "pattern"), [(m, p) for m, p in VALID if m not in ("lamp", "per_row")]
)
def test_selection_reads_nothing_aside(replayed, mode, pattern):
    generator = torch.Generator().manual_seed(1)
    scores = {f"p{i}": torch.randn(s, generator=generator) for i, s in enumerate(SHAPES)}
    sparsity = 0.5 if pattern.startswith("nm") else 0.7
    replayed.record()
    wanted = prune(scores, MaskSet.ones(scores), sparsity, mode, pattern)
    replayed.replay()
    context = FakeTensorMode()
    given = fake(scores, context)
    with context:
        found = prune(given, MaskSet.ones(given), sparsity, mode, pattern)
    assert all(
        mask.device.type == GPU and mask.shape == wanted[n].shape for n, mask in found.items()
    )
    if (mode, pattern) == ("global", "unstructured"):
        assert len(replayed.told) == 1  # an update's selection waits once, whatever the tensors


def test_reads_do_not_grow_with_the_tensors(replayed):
    replayed.record()
    told = []
    for number in (2, 40):
        scores = {f"p{i}": torch.randn(8, 8) for i in range(number)}
        counts = allocate(scores, MaskSet.ones(scores), count=32 * number, mode="uniform")
        make_masks(scores, MaskSet.ones(scores), counts)
        told.append(len(replayed.told))
        replayed.told.clear()
    assert told[0] == told[1] <= 3


READS = {  # times that the host waits: at each observation, for the scores
    SevenScore: (0, 0), PlatonScore: (0, 0), MovementScore: (0, 0), TaylorScore: (0, 0),
    SnipScore: (0, 0), MagnitudeScore: (0, 0), SoftMovementScore: (1, 0), RiglScore: (0, 2),
}  # fmt: skip


@pytest.mark.parametrize("score", READS)
def test_a_score_reads_nothing_aside(score, monkeypatch):
    """Nothing, or all tensors' numbers at once."""
    monkeypatch.setattr(device, "address", id)
    reads = []

    def read(values):
        reads.append(values)
        return [1.0] * sum(value.numel() for value in values)

    monkeypatch.setattr(device, "read", read)
    context = FakeTensorMode()
    made = score()
    with context:
        params = {n: torch.empty(8, 4, device=GPU) for n in "ab"}
        made.reset(params)
        for step in range(10):
            made.observe(Observation(params, params, MaskSet.ones(params), step))
        observed = len(reads)
        found = made.scores(params, MaskSet.ones(params))
    assert (observed / 10, len(reads) - observed) == READS[score]
    assert {tensor.device.type for tensor in found.values()} == {GPU}


def test_state_lies_side_by_side_on_a_gpu(everything_there):
    score = SevenScore()
    params = {"a": torch.rand(4, 4), "b": torch.rand(3)}
    score.reset(params)
    for group in (score.first, score.second, score.importance):
        whole = device.joined(list(group.values()))
        assert whole.data_ptr() == group["a"].data_ptr()


def test_updates_as_one_equal_updates_one_by_one(monkeypatch):
    """Also where the state does not lie side by side, and in several pieces."""
    params = {n: torch.randn(40, 5) for n in "abc"}
    grads = {n: torch.randn(40, 5) for n in "abc"}
    masks = MaskSet({n: torch.rand(40, 5) < 0.5 for n in "abc"})

    def importance(apart: bool) -> dict:
        score = SevenScore()
        score.reset(params)
        for step in range(3):
            if apart:
                score.importance = {n: t.clone() for n, t in score.importance.items()}
            score.observe(Observation(params, grads, masks, step))
        return score.importance

    wanted = importance(False)
    monkeypatch.setattr(device, "on_gpu", lambda tensors: True)
    monkeypatch.setattr(device, "PIECE", 450)
    assert same(importance(False), wanted) and same(importance(True), wanted)
