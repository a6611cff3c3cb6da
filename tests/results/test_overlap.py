from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.overlap import measure_jaccard, measure_overlaps, tabulate_overlaps
from seven_bench.store.masks import read_masks

from .synthetic import make_record, write_masks, write_run


def mask(*kept: int, size: int = 10) -> dict[str, np.ndarray]:
    bits = np.zeros(size, dtype=bool)
    bits[list(kept)] = True
    return {"a": bits.reshape(2, -1), "b": np.zeros((3,), dtype=bool)}


def test_overlap_by_hand(tmp_path: Path) -> None:
    write_masks(tmp_path / "first", mask(0, 1, 9))
    write_masks(tmp_path / "second", mask(1, 2, 9))
    first, second = read_masks(tmp_path / "first"), read_masks(tmp_path / "second")
    assert first.shapes == {"a": (2, 5), "b": (3,)}
    assert measure_jaccard(first, second) == 2 / 4
    assert measure_jaccard(first, first) == 1
    write_masks(tmp_path / "none", mask())
    assert measure_jaccard(read_masks(tmp_path / "none"), read_masks(tmp_path / "none")) == 1


def test_masks_of_other_parameters_do_not_compare(tmp_path: Path) -> None:
    write_masks(tmp_path / "first", mask(0))
    write_masks(tmp_path / "second", mask(0, size=12))
    with pytest.raises(ValueError, match="different sets"):
        measure_jaccard(read_masks(tmp_path / "first"), read_masks(tmp_path / "second"))


def test_overlaps_of_a_group_within_the_budget(tmp_path: Path) -> None:
    for seed in (0, 1):
        for pruner, kept in {"a": (0, 1), "b": (1, 2), "c": (seed, 3)}.items():
            write_run(tmp_path, make_record(pruner=pruner, seed=seed), mask(*kept))
    write_run(tmp_path, make_record(pruner="d"))  # without masks
    broken = write_run(tmp_path, make_record(pruner="e", seed=1)) / "masks.safetensors"
    broken.write_bytes(b"short")  # beside the seal
    groups = split_groups(collect([tmp_path]).records)
    (overlaps,) = measure_overlaps(groups, budget=2**20)
    pairs = overlaps.values[0.9]
    assert pairs["a", "b"] == [1 / 3, 1 / 3]
    assert pairs["a", "c"] == [1 / 3, 1 / 3]
    assert pairs["b", "c"] == [0, 1 / 3]
    assert [path for path, _ in overlaps.damaged] == [broken]
    table = tabulate_overlaps(groups, [overlaps]).set_index(["first", "second"])
    assert table.loc[("b", "c"), "jaccard"] == pytest.approx(1 / 6)
    half = 12.7062047 / 6  # t of one degree of freedom, times s / sqrt 2 = (1/3) / 2
    assert table.loc[("b", "c"), "high"] == pytest.approx(1 / 6 + half)
    assert table["pairs"].tolist()[:3] == [2, 2, 2]
    (unread,) = measure_overlaps(groups, budget=0)
    assert (unread.values, unread.skipped) == ({}, 7)
