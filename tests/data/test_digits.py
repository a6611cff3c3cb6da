"""Digits: one fixed test set, or five that are disjoint."""

import pytest
import torch

from seven_bench.data.making import make_data
from seven_bench.errors import ConfigError

DIGITS = 1797


def splits_of(make_config, *overrides):
    data = make_data(make_config(*overrides), 32)
    _, labels = data._read()
    return data, {n: set(i.tolist()) for n, i in data._choose(labels).items()}, labels


def test_every_image_is_scored_once_over_the_folds(make_config):
    scored = []
    for fold in range(5):
        data, splits, labels = splits_of(
            make_config, "task=digits_folds", f"data.split_seed={fold}"
        )
        assert [len(part) for part in splits.values()] in ([1257, 180, 360], [1258, 180, 359])
        assert sum(map(len, splits.values())) == DIGITS == len(set().union(*splits.values()))
        counts = torch.bincount(labels[[*splits["test"]]])
        assert (counts - torch.bincount(labels) / 5).abs().max() < 1  # stratified
        held_out = torch.bincount(labels[[*splits["validation"]]])
        assert (held_out - torch.bincount(labels) / 10).abs().max() < 1.5
        assert data.folds == 5
        scored += splits["test"]
    assert sorted(scored) == list(range(DIGITS))


def test_digits_keep_their_test_set_whatever_is_held_out(make_config):
    _, one, _ = splits_of(make_config)
    data, other, _ = splits_of(make_config, "data.split_seed=3")
    _, again, _ = splits_of(make_config, "data.split_seed=3", "seed=5")
    assert one["test"] == other["test"] and one["validation"] != other["validation"]
    assert other == again and data.folds == 1
    assert [len(part) for part in other.values()] == [1259, 179, 359]


def test_a_fold_that_is_not_there_is_said(make_config):
    with pytest.raises(ConfigError, match=r"data.split_seed=5: .* has 5 folds; allowed are 0 to 4"):
        make_config("task=digits_folds", "data.split_seed=5")
