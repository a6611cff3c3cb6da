"""Variance components: by hand, beside REML, and on a known truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import tabulate
from seven_bench.results.groups import split_groups
from seven_bench.results.variance import estimate_components, tabulate_variance

from .synthetic import make_record, write_run


def crossed(*counts: int) -> list[np.ndarray]:
    """Levels of a balanced design, the outermost first."""
    return [level.reshape(-1) for level in np.indices(counts)]


def test_two_splits_of_two_seeds_by_hand() -> None:
    # means 2 and 7; between: 2 * 2 * 2.5^2 / 1 = 25, within: (1 + 1 + 4 + 4) / 2 = 5
    split, seed = estimate_components([1, 3, 5, 9], crossed(2, 2))
    assert seed == pytest.approx(5)
    assert split == pytest.approx((25 - 5) / 2)


def test_one_source_is_the_sample_variance() -> None:
    values = np.random.default_rng(0).normal(size=7)
    assert estimate_components(values, [np.arange(7)]) == pytest.approx([values.var(ddof=1)])


def test_what_has_no_freedom_is_unknown() -> None:
    split, seed = estimate_components([1.0, 2.0, 4.0], [[0, 1, 2], [0, 0, 0]])
    assert math.isnan(seed) and math.isnan(split)
    with pytest.raises(ValueError, match="in one group at every level"):
        estimate_components([1, 2], [[0, 0]])


def test_of_a_balanced_design_it_is_reml() -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng, (split, seed) = np.random.default_rng(4), crossed(6, 5)
    values = 3 * rng.normal(size=6)[split] + rng.normal(size=30)
    fitted = MixedLM(values, np.ones((30, 1)), groups=split).fit(reml=True)
    expected = [float(fitted.cov_re[0, 0]), float(fitted.scale)]
    assert estimate_components(values, [split, seed]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("balanced", [True, False])
def test_the_truth_of_a_simulation_is_found(balanced: bool) -> None:
    rng, truth, found = np.random.default_rng(1), np.array([0.02, 0.01, 0.005]), []
    levels = np.stack(crossed(5, 4, 3))
    if not balanced:
        levels = levels[:, rng.random(60) < 0.7]
    split, seed, draw = levels
    for _ in range(600):
        values = truth[0] * rng.normal(size=5)[split]
        values += truth[1] * rng.normal(size=(5, 4))[split, seed]
        values += truth[2] * rng.normal(size=(5, 4, 3))[split, seed, draw]
        found.append(estimate_components(values, [split, seed, draw]))
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / math.sqrt(600)
    assert (abs(mean - truth**2) < 3.5 * error).all()


def varied(folder: Path) -> pd.DataFrame:
    """Snip over two folds, two seeds, two draws; dense over folds and seeds."""
    pairs = []
    for split in range(2):
        for seed in range(2):
            value = 0.8 + 0.04 * split + 0.02 * seed
            for draw in (None, 0, 1):
                own = {"split": split, "calibration": draw}
                name = "dense" if draw is None else "snip"
                record = make_record(
                    pruner=name,
                    seed=seed,
                    seeds=own,
                    metric__value=value + 0.01 * (draw or 0),
                    run_id=f"{name}/{split}/{seed}/{draw}",
                )
                write_run(folder, record)
                pairs.append((record, folder))
    return tabulate(pairs)


def test_a_report_tells_what_was_varied(tmp_path: Path) -> None:
    (table,) = tabulate_variance(split_groups(varied(tmp_path / "runs")))
    assert table.sources == ("split", "seed", "calibration draw")
    dense, snip = table.rows
    assert [c.source for c in dense.components] == ["split", "seed"]
    seeds = 0.02**2 / 2
    assert [c.variance for c in dense.components] == pytest.approx([0.04**2 / 2 - seeds / 2, seeds])
    draws = 0.01**2 / 2
    found = [0.04**2 / 2 - seeds / 2, seeds - draws / 2, draws]
    assert [c.variance for c in snip.components] == pytest.approx(found)
    assert [c.freedom for c in snip.components] == [1, 2, 4]
    report = write_report([tmp_path / "runs"], tmp_path / "out")
    line = "| snip | 0.9 | 8 | 2.65 (1) | 1.32 (2) | 0.71 (4) |"
    assert line in (tmp_path / "out/variance.md").read_text("utf-8")
    assert "Where runs differ from" in report.page.read_text("utf-8")


def test_of_seeds_alone_there_is_nothing_to_take_apart() -> None:
    records = [make_record(seed=seed, metric__value=0.9 + 0.01 * seed) for seed in range(3)]
    assert tabulate_variance(split_groups(tabulate((r, Path("x")) for r in records))) == []
