from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.statistics import (
    Pairing,
    compare,
    detectable_difference,
    holm,
    pair_by_seed,
    rank_methods,
    sampling_interval,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    summarise,
)

from .synthetic import make_record, write_run


def test_a_summary_by_hand() -> None:
    summary = summarise([1.0, 2.0, 3.0, math.nan])
    assert (summary.mean, summary.std, summary.n) == (2.0, 1.0, 3)
    half = 4.302653 / math.sqrt(3)  # Student's t at 0.975 with 2 degrees of freedom
    assert (summary.low, summary.high) == pytest.approx((2 - half, 2 + half), abs=1e-6)


def test_what_few_values_do_not_allow_is_nan() -> None:
    one, none = summarise([0.5]), summarise([])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.std) and math.isnan(one.low)
    assert none.n == 0 and math.isnan(none.mean)
    same = summarise([0.5, 0.5])
    assert (same.std, same.low, same.high) == (0.0, 0.5, 0.5)


def test_the_error_of_a_test_set() -> None:
    # Wilson: centre (p + z^2/2n) / (1 + z^2/n), half z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n)
    z, p, n = 1.959964, 0.9, 100
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert sampling_interval(0.9, 100) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert sampling_interval(1.0, 360)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(("tests", "seeds"), [(1, 6), (5, 8), (23, 10)])
def test_seeds_that_a_family_needs(tests: int, seeds: int) -> None:
    assert seeds_needed(tests) == seeds
    assert 2.0 ** (1 - seeds) <= 0.05 / tests < 2.0 ** (2 - seeds)


def test_a_family_has_tests() -> None:
    with pytest.raises(ValueError, match="at least one"):
        seeds_needed(0)


def test_six_wins_of_six_are_two_of_64() -> None:
    assert sign_flip_p(np.array([[1.0, 2, 3, 4, 5, 6]]))[0] == pytest.approx(2 / 64)


@settings(deadline=None, max_examples=50)  # the first call imports much
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9))
def test_sign_flips_against_counting_all(values: list[int]) -> None:
    seen = sum(values)
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    upper = sum(total >= seen for total in sums) / len(sums)
    lower = sum(total <= seen for total in sums) / len(sums)
    expected = min(1.0, 2 * min(upper, lower))
    assert sign_flip_p(np.array([values], dtype=float))[0] == pytest.approx(expected)


@pytest.mark.parametrize("pairs", [8, 15, 20, 30])
def test_equal_differences_are_a_binomial(pairs: int) -> None:
    """`losses` of n equal differences: the two tails of n coins, exact also where ties are all."""
    for losses in (0, 1, pairs // 3):
        values = np.full(pairs, 0.1)  # which no binary number is
        values[:losses] *= -1
        expected = 2 * sum(math.comb(pairs, k) for k in range(losses + 1)) / 2**pairs
        assert sign_flip_p(values[None])[0] == pytest.approx(min(1.0, expected), rel=1e-12)


def test_exact_against_scipy() -> None:
    from scipy.stats import permutation_test

    differences = np.random.default_rng(0).normal(0.5, 1, (3, 12))
    counted = permutation_test(
        (differences,), np.mean, permutation_type="samples", axis=-1, n_resamples=2**12
    )
    assert sign_flip_p(differences) == pytest.approx(counted.pvalue)


def test_many_pairs_are_sampled_and_repeatable() -> None:
    wins, pairs = 30, 45
    values = np.repeat([0.1, -0.1], [wins, pairs - wins])
    expected = 2 * sum(math.comb(pairs, k) for k in range(wins, pairs + 1)) / 2**pairs
    first, second = sign_flip_p(values[None]), sign_flip_p(values[None])
    assert first == second == pytest.approx(expected, rel=0.03)  # 3 errors of 1,000,000 draws
    assert sign_flip_p(np.ones((1, 60)))[0] == smallest_p(60) == 2 / 1_000_001


def test_what_could_not_be_rejected_is_not_tested() -> None:
    """With drawn flips a p-value has a floor, and Holm multiplies it."""
    clear = tuple(0.1 + 0.001 * index for index in range(31))
    assert compare([Pairing("a", 0.9, clear)])[0].p == pytest.approx(2e-6, rel=1e-3)
    family = [Pairing("a", 0.9, clear), Pairing("b", 0.9, clear[:30])]
    drawn, counted = compare(family, alpha=2e-6)  # the floor is 2e-6, and half of that is asked
    assert drawn.words == "too many tests for 1,000,000 drawn flips (2)"
    assert math.isnan(drawn.p)
    assert counted.words == "better than the reference"


def test_a_family_may_be_chosen_by_method(tmp_path: Path) -> None:
    for pruner, control in (("a", "none"), ("a", "shuffle"), ("b", "none"), ("c", "none")):
        for seed in range(2):
            write_run(tmp_path, make_record(pruner=pruner, control=control, seed=seed))
    (group,) = split_groups(collect([tmp_path]).records)
    assert len(pair_by_seed(group, "b")) == 3
    named = [pairing.method for pairing in pair_by_seed(group, "b", methods=["a"])]
    assert sorted(named) == ["a", "a \N{MIDDLE DOT} shuffle"]


def test_too_few_seeds_say_how_many_would_do() -> None:
    five = Pairing("a", 0.9, (0.1, 0.11, 0.12, 0.13, 0.14))
    (alone,) = compare([five])
    assert alone.words == "too few seeds to test (5 of 6)"
    assert math.isnan(alone.p)
    assert alone.difference == pytest.approx(0.12)
    half = 2.776445 * np.std(five.differences, ddof=1) / math.sqrt(5)
    assert (alone.low, alone.high) == pytest.approx((0.12 - half, 0.12 + half), abs=1e-6)
    assert alone.effect == pytest.approx(0.12 / np.std(five.differences, ddof=1))
    crowd = compare([five, *(Pairing(name, 0.9, (0.0,) * 6) for name in "bcde")])
    assert crowd[0].words == "too few seeds to test (5 of 8)"
    assert crowd[1].words == "too few seeds to test (6 of 8)"


def test_holm_against_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    for values in (rng.random(1), rng.random(20) ** 4, np.repeat([0.01, 1.0, 0.2], 3), np.ones(5)):
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_over_the_whole_family() -> None:
    clear = tuple(0.1 + 0.01 * index for index in range(8))
    unclear = (1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 0.1, -0.2)
    first, second = compare([Pairing("a", 0.9, clear), Pairing("b", 0.9, unclear)])
    assert first.p == pytest.approx(2 * 2 / 2**8)  # the smaller of two p-values is doubled
    assert first.words == "better than the reference"
    assert second.p > 0.5
    assert second.words == "no difference shown"
    (lower, _) = compare(
        [Pairing("a", 0.9, clear), Pairing("b", 0.9, unclear)], higher_is_better=False
    )
    assert lower.words == "worse than the reference"


def test_equality_needs_a_margin() -> None:
    differences = (0.001, -0.001, 0.002, -0.002, 0.0005, -0.0005, 0.001, -0.001)
    pairing = Pairing("a", 0.9, differences)
    assert compare([pairing])[0].words == "no difference shown"
    assert compare([pairing], margin=0.01)[0].words == "equal within the margin"
    assert compare([pairing], margin=0.0005)[0].words == "neither a difference nor equality shown"
    small = Pairing("a", 0.9, tuple(0.001 + value / 100 for value in differences))
    assert (
        compare([small], margin=0.01)[0].words == "better than the reference, yet within the margin"
    )
    with pytest.raises(ValueError, match="positive"):
        compare([pairing], margin=0.0)


def test_no_difference_in_any_pair() -> None:
    (same,) = compare([Pairing("a", 0.9, (0.0,) * 6)], margin=0.01)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert math.isnan(same.effect)
    assert same.words == "equal within the margin"


def test_pairs_share_their_seed(tmp_path: Path) -> None:
    for pruner, values in {"a": {0: 0.9, 1: 0.8, 2: 0.7}, "b": {1: 0.5, 2: 0.6, 3: 0.1}}.items():
        for seed, value in values.items():
            write_run(tmp_path, make_record(pruner=pruner, seed=seed, metric__value=value))
    write_run(tmp_path, make_record(pruner="dense", seed=1, metric__value=0.95))
    write_run(tmp_path, make_record(pruner="b", seed=1, sparsity__target=0.5))
    (group,) = split_groups(collect([tmp_path]).records)
    found = {(p.method, p.sparsity): p.differences for p in pair_by_seed(group, "a")}
    assert set(found) == {("b", 0.9), ("dense", 0.9)}
    assert found["b", 0.9] == pytest.approx((-0.3, -0.1))
    assert found["dense", 0.9] == pytest.approx((0.15,))
    against_dense = {(p.method, p.sparsity) for p in pair_by_seed(group, "dense")}
    assert against_dense == {("a", 0.9), ("b", 0.9), ("b", 0.5)}
    assert [p.sparsity for p in pair_by_seed(group, "dense", at=[0.5])] == [0.5]
    assert pair_by_seed(group, "unknown") == []


def test_average_ranks_by_hand() -> None:
    few = pd.DataFrame({"a": [3.0, 3, 1], "b": [2.0, 2, 2], "c": [1.0, 1, 3]})
    ranking = rank_methods(few)
    assert ranking.ranks.to_dict() == pytest.approx({"a": 5 / 3, "b": 2, "c": 7 / 3})
    assert ranking.words.startswith("3 data sets with 3 methods: too few for average ranks")
    assert ranking.nemenyi is None


def test_enough_data_sets_are_ranked_and_gaps_left_out() -> None:
    scores = pd.DataFrame({name: np.arange(12.0) - shift for shift, name in enumerate("abcd")})
    scores["rare"] = [1.0, *[math.nan] * 11]
    scores.loc[11, "d"] = math.nan
    ranking = rank_methods(scores)
    assert ranking.ranks.to_dict() == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert ranking.blocks == 11
    assert ranking.words.startswith("11 data sets, Friedman p = ")
    assert ranking.nemenyi is not None and ranking.nemenyi.loc["a", "d"] < 0.05
    assert "wanted" in rank_methods(scores[:6]).words


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    drawn = np.random.default_rng(0)
    pairs, level, spread = 10, 0.05, 2.0
    sample = drawn.normal(size=pairs)
    sample *= spread / sample.std(ddof=1)
    shift = detectable_difference(sample.tolist(), level)
    # power by the noncentral t distribution
    found = 1 - stats.nct.cdf(
        stats.t.ppf(1 - level / 2, pairs - 1), pairs - 1, shift / spread * pairs**0.5
    )
    assert found == pytest.approx(0.8, abs=0.03)
    assert math.isnan(detectable_difference([1.0], level))
