"""A second run of a process loads no data again, unless it is of others."""

import pytest
import torch

from seven_bench.data import digits, task_data
from seven_bench.data.making import make_data


def make_and_set_up(settings):
    data = make_data(settings, 32)
    data.setup()
    return data


@pytest.fixture
def loads(monkeypatch):
    monkeypatch.setattr(task_data, "_LOADED", {})
    counted, real = [], digits.DigitsData.load

    def load(self):
        counted.append(self.seed)
        return real(self)

    monkeypatch.setattr(digits.DigitsData, "load", load)
    return counted


def test_what_was_loaded_serves_other_seeds_and_methods(make_config, loads):
    """Order is the seed's all the same."""
    made = []
    for given in (("seed=0",), ("seed=1", "pruner=snip", "trainer.batch_size=16")):
        settings = make_config("logger=none", *given)
        made.append(make_data(settings, settings.trainer.batch_size))
        made[-1].setup()
    assert loads == [0] and len(task_data._LOADED) == 1
    first, second = (next(iter(data.train_batches())) for data in made)
    assert len(second) == 16 and first[:16] != second
    assert made[0].splits is made[1].splits
    before = made[0].splits["train"].columns["labels"].clone()
    batch = made[1].splits["train"][[0, 1]]
    batch["labels"].fill_(7)  # what a batch is made into is not the data
    assert torch.equal(made[0].splits["train"].columns["labels"], before)
    other = make_data(make_config("logger=none", "data.split_seed=1"), 32)
    other.setup()
    assert loads == [0, 0] and len(task_data._LOADED) == 2
    make_and_set_up(make_config("logger=none"))
    assert loads == [0, 0]  # the first is there still
    assert not torch.equal(
        *(d.splits["validation"].columns["pixel_values"] for d in (other, made[0]))
    )


def test_what_is_kept_has_an_end(make_config, loads, monkeypatch):
    """Digits are 1,797 pictures of 64 float32 and a label of 8 bytes: 474,408 bytes."""
    one = 1_797 * (64 * 4 + 8)
    configs = [make_config("logger=none", f"data.split_seed={seed}") for seed in range(3)]
    first = make_and_set_up(configs[0])
    assert task_data.size_of(first.splits, set()) == one
    assert task_data.size_of([first.splits, "abc", first.splits], set()) == one + 3 + 3 * 8
    monkeypatch.setattr(task_data, "KEPT", 2 * one)
    make_and_set_up(configs[1])
    make_and_set_up(configs[0])  # used again: the other is the oldest now
    make_and_set_up(configs[2])
    assert len(loads) == 3
    make_and_set_up(configs[0])
    assert len(loads) == 3
    make_and_set_up(configs[1])
    assert len(loads) == 4
    monkeypatch.setattr(task_data, "KEPT", 0)
    make_and_set_up(configs[2])
    assert len(task_data._LOADED) == 1
