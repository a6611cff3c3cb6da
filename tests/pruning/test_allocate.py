"""Counts and masks: exact whatever the shapes, ties and signs, and what must be refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seven_bench.pruning import (
    DISTRIBUTIONS,
    PATTERNS,
    MaskSet,
    allocate,
    make_masks,
    prune,
    reachable_count,
)

VALID = [  # units that lie across tensors have a file of their own
    (mode, pattern)
    for pattern, form in PATTERNS.items()
    if not form.coupled
    for mode in form.distributions
]
VALUES = {
    "normal": lambda shape, g: torch.randn(shape, generator=g),
    "few values": lambda shape, g: torch.randint(-2, 3, shape, generator=g).float(),
    "all equal": lambda shape, g: torch.full(shape, -3.25),
    "zeros": lambda shape, g: torch.zeros(shape),
    "minus zero": lambda shape, g: torch.zeros(shape).mul(
        torch.randint(0, 2, shape, generator=g) * 2 - 1
    ),
    "negative": lambda shape, g: -torch.rand(shape, generator=g) - 1,
    "tiny": lambda shape, g: torch.randn(shape, generator=g) * 1e-42,
}


@st.composite
def problems(draw, multiple=1):
    """Scores of some shapes and kinds of value, and living masks."""
    side = st.integers(1, 5).map(lambda n: n * multiple)
    shapes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    kinds = [draw(st.sampled_from(sorted(VALUES))) for _ in shapes]
    scores = {
        f"p{i}": VALUES[kind](shape, generator)
        for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))
    }
    density = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    masks = MaskSet(
        {n: torch.rand(s.shape, generator=generator) < density for n, s in scores.items()}
    )
    return scores, masks


def ordered(scores, masks):
    """All living weights, best first: ties by (parameter order, flat index)."""
    flat = [
        (-float(value), position, index)
        for position, name in enumerate(scores)
        for index, value in enumerate(scores[name].reshape(-1).tolist())
        if bool(masks[name].reshape(-1)[index])
    ]
    return [(list(scores)[position], index) for _, position, index in sorted(flat)]


@given(problems(), st.floats(0, 1), st.sampled_from(sorted(DISTRIBUTIONS)))
@settings(max_examples=80, deadline=None)
def test_counts_and_masks_are_exact(problem, part, mode):
    scores, masks = problem
    count = round(part * masks.kept)
    counts = allocate(scores, masks, count=count, mode=mode)
    assert sum(counts.values()) == count, "the counts do not add up to what was asked"
    assert list(counts) == list(scores), "counts are not in parameter order"
    made = make_masks(scores, masks, counts)
    for name, mask in made.items():
        assert int(mask.sum()) == counts[name], f"{mode}: {name} keeps another number"
        assert bool((mask <= masks[name]).all()), f"{mode}: a removed weight came back"


@given(problems(), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_global_is_a_stable_sort(problem, part):
    scores, masks = problem
    count = round(part * masks.kept)
    made = make_masks(scores, masks, allocate(scores, masks, count=count))
    kept = {
        (name, index)
        for name, mask in made.items()
        for index in mask.reshape(-1).nonzero().reshape(-1).tolist()
    }
    assert kept == set(ordered(scores, masks)[:count]), "not the best, or ties out of order"


@given(problems(multiple=8), st.sampled_from(VALID), st.floats(0, 0.99))
@settings(max_examples=120, deadline=None)
def test_every_pattern_keeps_the_count_it_declares(problem, pair, sparsity):
    scores, _ = problem
    mode, pattern = pair
    form = PATTERNS[pattern]
    sparsity = sparsity if form.sparsity is None else sparsity * form.sparsity
    masks = MaskSet.ones(scores)
    wanted = reachable_count(masks, sparsity, pattern)
    sizes = {math.prod(form.unit(n, s.shape)) for n, s in scores.items()}
    asked = masks.total - round(sparsity * masks.total)
    assert 0 <= asked - wanted < max(sizes), "not the nearest count at or below"
    made = prune(scores, masks, sparsity, mode, pattern)
    assert made.kept == wanted, f"{mode} x {pattern} keeps another count than it declares"
    for name, mask in made.items():
        if not form.single:
            form.living_units({name: mask})  # raises where a block is cut in pieces
    again = prune(scores, made, sparsity, mode, pattern)
    assert all(torch.equal(again[n], made[n]) for n in made), "not stable"


@given(problems(multiple=8), st.sampled_from(VALID))
@settings(max_examples=60, deadline=None)
def test_masks_tighten_without_regrowth(problem, pair):
    scores, _ = problem
    mode, pattern = pair
    top = PATTERNS[pattern].sparsity or 0.9
    masks = MaskSet.ones(scores)
    for sparsity in (0.2 * top, 0.6 * top, top):
        tighter = prune(scores, masks, sparsity, mode, pattern)
        assert all(bool((tighter[n] <= masks[n]).all()) for n in masks), "a weight came back"
        masks = tighter


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("mode", "pattern"), VALID)
def test_scores_that_are_not_finite_are_refused_by_name(value, mode, pattern):
    scores = {"ok": torch.rand(8, 8), "bad": torch.rand(8, 8)}
    scores["bad"][3, 4] = value
    with pytest.raises(ValueError, match="bad are not finite"):
        prune(scores, MaskSet.ones(scores), 0.5, mode, pattern)


@pytest.mark.parametrize(("mode", "pattern"), VALID)
def test_nothing_and_everything(mode, pattern):
    scores = {"a": torch.randn(8, 16), "b": torch.randn(16, 8)}
    ones = MaskSet.ones(scores)
    assert prune(scores, ones, 0.0, mode, pattern).kept == ones.total
    if PATTERNS[pattern].group is None:
        counts = allocate(scores, ones, count=0, mode=mode, pattern=pattern)
        assert make_masks(scores, ones, counts, pattern).kept == 0


def test_wrong_requests_are_named():
    scores = {"a": torch.rand(6, 10)}
    ones = MaskSet.ones(scores)
    for wrong, text in (
        (lambda: allocate(scores, ones, count=61), "cannot keep 61 weights: 60 live"),
        (lambda: allocate(scores, ones, count=-1), "cannot keep -1"),
        (lambda: allocate(scores, ones, count=1, mode="x"), "distribution='x': allowed are"),
        (lambda: allocate(scores, ones, count=1, pattern="x"), "pattern='x': allowed are"),
        (lambda: make_masks(scores, ones, {"a": 1}, "x"), "pattern='x': allowed are"),
        (lambda: make_masks(scores, ones, {"a": 99}), "cannot keep 99 weights of a: 60 live"),
        (lambda: prune(scores, ones, 0.5, "global", "block_4x4"), "a has shape 6x10: 4x4 blocks"),
        (lambda: prune(scores, ones, 0.5, "uniform", "nm_2_4"), "a has shape 6x10: groups of 4"),
        (lambda: prune(scores, ones, 0.5, "per_row", "row"), "pattern=row allows global"),
        (lambda: prune(scores, ones, 1.0), "allowed is a number in"),
    ):
        with pytest.raises(ValueError, match=text):
            wrong()
    even = {"a": torch.rand(8, 8)}
    with pytest.raises(ValueError, match="2 of 4 weights stay, not 13"):
        prune(even, MaskSet.ones(even), 0.8, "uniform", "nm_2_4")
    with pytest.raises(ValueError, match="pattern=nm_2_4 allows uniform"):
        prune(even, MaskSet.ones(even), 0.5, "er", "nm_2_4")
    part = MaskSet({"a": torch.rand(8, 8) < 0.5})
    with pytest.raises(ValueError, match="parts of 4x4 blocks"):
        prune(even, part, 0.9, "global", "block_4x4")


# Arithmetic by hand.


def test_uniform_and_er_counts_by_hand():
    scores = {"wide": torch.rand(2, 30), "square": torch.rand(10, 10)}  # 60 and 100 weights
    ones = MaskSet.ones(scores)
    assert allocate(scores, ones, count=80, mode="uniform") == {"wide": 30, "square": 50}
    # sides 2 + 30 = 32 and 10 + 10 = 20: 26 weights are shared 16 to 10
    assert allocate(scores, ones, count=26, mode="er") == {"wide": 16, "square": 10}
    # 130: 32/52 of it would be 80, more than the 60 there are, so square takes the other 70
    assert allocate(scores, ones, count=130, mode="er") == {"wide": 60, "square": 70}
    # 27 x 32/52 = 16.6 and 10.4: the larger remainder takes the odd one
    assert allocate(scores, ones, count=27, mode="er") == {"wide": 17, "square": 10}
    # a convolution's sides are all its dimensions: 8 + 3 + 4 + 4 = 19 against 10 + 9
    conv = {"conv": torch.rand(8, 3, 4, 4), "linear": torch.rand(10, 9)}
    counts = allocate(conv, MaskSet.ones(conv), count=40, mode="er")
    assert counts == {"conv": 20, "linear": 20}


def test_lamp_by_hand():
    # squares 9, 16, 1, 4 -> sums over the larger or equal ones: 25, 16, 30, 29
    weights = {"a": torch.tensor([[3.0, -4.0, 1.0, 2.0]]), "b": torch.tensor([[0.1, 0.1]])}
    # LAMP: a = 9/25, 16/16, 1/30, 4/29; b = 1/1 and 1/2 (the second of a tie adds the first)
    ones = MaskSet.ones(weights)
    for count, expected in ((1, (1, 0)), (2, (1, 1)), (3, (1, 2)), (4, (2, 2)), (5, (3, 2))):
        counts = allocate(weights, ones, count=count, mode="lamp")
        assert tuple(counts.values()) == expected, f"LAMP's quotas at {count}"
    magnitude = {name: weight.abs() for name, weight in weights.items()}
    made = make_masks(magnitude, ones, allocate(magnitude, ones, count=4, mode="lamp"))
    assert made["a"].tolist() == [[True, True, False, False]]
    # for another score only the quotas are LAMP's
    other = {"a": torch.tensor([[0.0, 1.0, 2.0, 3.0]]), "b": torch.tensor([[5.0, 6.0]])}
    counts = allocate(other, ones, count=4, mode="lamp", weights=weights)
    assert make_masks(other, ones, counts)["a"].tolist() == [[False, False, True, True]]


def test_per_row_by_hand():
    scores = {"a": torch.tensor([[9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])}
    made = prune(scores, MaskSet.ones(scores), 0.5, "per_row")
    expected = [
        [True, True, False, False],
        [False, False, True, True],
        [True, True, False, False],  # ties: the lower index
    ]
    assert made["a"].tolist() == expected
    # 7 weights on 3 rows: 3, 2, 2
    seven = prune(scores, MaskSet.ones(scores), 5 / 12, "per_row")
    assert seven["a"].sum(1).tolist() == [3, 2, 2]


def test_n_of_m_by_hand():
    row = [1.0, 5.0, 5.0, 5.0, -4.0, -1.0, -3.0, -2.0]
    scores = {"a": torch.tensor([row])}
    made = prune(scores, MaskSet.ones(scores), 0.5, "uniform", "nm_2_4")
    assert made["a"].int().tolist() == [[0, 1, 1, 0, 0, 1, 0, 1]]
    made = prune(scores, MaskSet.ones(scores), 0.5, "uniform", "nm_4_8")
    assert made["a"].int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    # on the way, 6 of 8: the best two of each four, then the best of the others (5 and 1)
    made = prune(scores, MaskSet.ones(scores), 0.25, "uniform", "nm_2_4")
    assert made["a"].int().tolist() == [[1, 1, 1, 1, 0, 1, 0, 1]]


def test_n_of_m_holds_whatever_the_counts_per_tensor():
    scores = {"a": torch.rand(4, 8) + 1, "b": torch.rand(4, 8)}  # all of a lies above all of b
    ones = MaskSet.ones(scores)
    made = make_masks(scores, ones, allocate(scores, ones, count=32), "nm_2_4")
    for name, mask in made.items():
        assert (mask.view(-1, 4).sum(1) == 2).all(), f"{name} is not 2:4"


def test_blocks_and_rows_by_hand():
    scores = {"a": torch.zeros(8, 8), "b": torch.zeros(4, 4)}
    scores["a"][4:, :4] = 2.0  # mean 2
    scores["a"][0, 7] = 31.0  # mean 31/16 for the block at the upper right
    scores["b"].fill_(1.0)
    made = prune(scores, MaskSet.ones(scores), 0.5, "global", "block_4x4")  # 40 asked, 32 reached
    assert made.kept == 32
    assert bool(made["a"][4:, :4].all()), "the block of the highest mean went"
    assert bool(made["a"][:4, 4:].all()), "a block's score is the mean of its weights"
    rows = {"a": torch.tensor([[0.0, 9.0], [4.0, 4.0], [5.0, 5.0]])}
    made = prune(rows, MaskSet.ones(rows), 0.5, "global", "row")  # 3 asked, 2 reached
    assert made["a"].tolist() == [[False, False], [False, False], [True, True]]


def test_rows_of_different_lengths_reach_the_nearest_sum():
    scores = {"long": torch.rand(3, 10) + 1, "short": torch.rand(2, 6)}
    ones = MaskSet.ones(scores)
    # of 42 keep 25: 20 = 2 long is below 22 = long + 2 short; 26 is above
    assert reachable_count(ones, 17 / 42, "row") == 22
    made = prune(scores, ones, 17 / 42, "global", "row")
    assert {n: int(m.sum()) for n, m in made.items()} == {"long": 10, "short": 12}
