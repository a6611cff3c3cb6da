"""Items: paired tests by hand and against scipy, torchmetrics and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from seven_bench.results.items import (
    bootstrap_difference,
    bootstrap_splits,
    count_flips,
    expected_calibration_error,
    lost_by_class,
    mcnemar_p,
    mean_brier,
)
from seven_bench.store.predictions import Predictions

LABEL = np.array([0, 0, 0, 1, 1, 1, 2, 2])
DENSE = np.array([0, 0, 1, 1, 1, 1, 2, 0])
PRUNED = np.array([0, 1, 2, 1, 0, 2, 2, 2])


def test_flips_by_hand() -> None:
    flips = count_flips(LABEL, DENSE, PRUNED)
    assert (flips.both, flips.lost, flips.won, flips.neither) == (3, 3, 1, 1)
    assert (flips.items, flips.changed, flips.agreement) == (8, 5, 3 / 8)
    # 1 or none of 4 coins, or 3 or more: (1 + 4) / 16, twice
    assert flips.p == pytest.approx(10 / 16)


def test_mcnemar_is_exact() -> None:
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(0, 6) == mcnemar_p(6, 0) == pytest.approx(2 / 64)
    assert mcnemar_p(3, 15) == pytest.approx(2 * stats.binom.cdf(3, 18, 0.5))
    assert mcnemar_p(5, 5) == 1


def test_what_pruning_lost_by_class() -> None:
    losses = lost_by_class(LABEL, DENSE, PRUNED)
    told = [(c.label, c.items, c.right_before, c.lost, c.won, c.agreement) for c in losses]
    assert told == [(1, 3, 3, 2, 0, 1 / 3), (0, 3, 2, 1, 0, 1 / 3), (2, 2, 1, 0, 1, 1 / 2)]
    assert [loss.drop for loss in losses] == pytest.approx([2 / 3, 1 / 3, -1 / 2])
    assert sum(loss.lost for loss in losses) == count_flips(LABEL, DENSE, PRUNED).lost


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="do not pair"):
        count_flips(LABEL, DENSE, PRUNED[:-1])
    with pytest.raises(ValueError, match="do not pair"):
        bootstrap_difference(np.zeros((2, 5)), np.zeros((3, 5)))


def test_calibration_against_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), 2_000)
    labels = rng.integers(0, 5, 2_000)
    kept = Predictions.of_classes(labels, probabilities, "x")
    theirs = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=5, n_bins=15, norm="l1"
    )
    assert expected_calibration_error(kept.confidence, kept.right) == pytest.approx(
        float(theirs), abs=1e-3
    )
    onehot = np.eye(5)[labels]
    assert mean_brier(kept.brier) == pytest.approx(
        ((probabilities - onehot) ** 2).sum(axis=1).mean(), abs=2e-5
    )


def test_calibration_by_hand() -> None:
    # Two bins of three: 0.9 and 0.8 with one right, 0.55 wrong; |1.7 - 1| + |0.55 - 0| over 3.
    error = expected_calibration_error([0.9, 0.8, 0.55], [True, False, False], bins=3)
    assert error == pytest.approx((abs(0.9 + 0.8 - 1) + 0.55) / 3)
    assert expected_calibration_error([1.0], [True]) == 0
    assert math.isnan(expected_calibration_error([], [])) and math.isnan(mean_brier([]))


def test_one_seed_is_an_interval_of_items() -> None:
    """Discordant items alone carry it: of 400, 30 lost and 10 won."""
    scores = np.zeros((2, 1, 400))
    scores[0, 0, :30] = scores[1, 0, 30:40] = 1
    found = bootstrap_difference(scores[0], scores[1])
    variance = (40 / 400 - (20 / 400) ** 2) / 399
    assert (found.mean, found.seeds, found.items) == (pytest.approx(0.05), 1, 400)
    assert found.by_items == pytest.approx(math.sqrt(variance)) and math.isnan(found.by_seeds)
    half = 1.96 * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((0.05 - half, 0.05 + half), abs=0.002)


def test_seeds_alone_are_students_t() -> None:
    """Where all items move as one, the interval is the paired t-interval of the seeds."""
    means = np.array([0.1, 0.2, 0.3, 0.5])
    found = bootstrap_difference(np.tile(means[:, None], (1, 50)), np.zeros((4, 50)), draws=200_000)
    half = stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx(
        (means.mean() - half, means.mean() + half), abs=0.01 * half
    )
    assert found.by_seeds == pytest.approx(means.std(ddof=1) / 2)
    assert found.by_items == pytest.approx(0, abs=1e-9)


def test_equal_runs_have_no_width_and_draws_repeat() -> None:
    same = np.random.default_rng(0).integers(0, 2, (3, 40))
    found = bootstrap_difference(same, same)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    other = np.random.default_rng(1).integers(0, 2, (3, 40))
    assert bootstrap_difference(same, other) == bootstrap_difference(same, other)


def test_disjoint_splits_count_every_item_once():
    """Two folds of 4 and 2 items, two seeds each: the mean is over the six items, by hand."""
    first = (np.array([[1, 1, 0, 1], [1, 1, 1, 1]]), np.array([[1, 0, 0, 0], [1, 0, 1, 0]]))
    second = (np.array([[0, 1], [1, 1]]), np.array([[1, 1], [1, 1]]))
    found = bootstrap_splits([first, second])
    # differences: fold 1 (2, 2) of 4 items, fold 2 (-1, 0) of 2
    assert found.mean == pytest.approx((2 + 2 - 1 + 0) / 12)
    assert (found.seeds, found.items, found.splits) == (4, 6, 2)
    # seeds: deviations of fold 2 alone, +-1/4 -> 2/16 over 2 degrees of freedom, half of it a fold
    variance = 2 * (1 / 4) ** 2 / 2 / 2
    assert found.by_seeds == pytest.approx(math.sqrt(((4 / 6) ** 2 + (2 / 6) ** 2) * variance))
    assert found.low < found.mean < found.high


def test_one_split_is_what_a_difference_always_was():
    rng = np.random.default_rng(3)
    one, other = rng.random((2, 3, 40)) < 0.8
    assert bootstrap_splits([(one, other)]) == bootstrap_difference(one, other)


def test_the_interval_over_folds_covers_the_truth():
    """Five folds x two seeds, with effects of seeds, items, and of what a fold is trained on."""
    rng, covered = np.random.default_rng(11), {0.0: 0, 0.02: 0}
    for by_split in covered:
        for _ in range(100):
            splits = []
            for _ in range(5):
                shared = by_split * rng.normal() + 0.2 * rng.normal(size=(1, 60))
                noise = 0.02 * rng.normal(size=(2, 1)) + 0.2 * rng.normal(size=(2, 60))
                splits.append((shared + noise, np.zeros((2, 60))))
            found = bootstrap_splits(splits, draws=400)
            covered[by_split] += found.low <= 0 <= found.high
    assert all(count >= 91 for count in covered.values()), covered
