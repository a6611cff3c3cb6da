"""The order of batches, and what is held out."""

import pytest
import torch

from seven_bench.data.samplers import GroupedBatches, LongestFirst, SeededBatches, hold_out
from seven_bench.errors import ConfigError

LENGTHS = torch.randint(3, 60, (203,), generator=torch.Generator().manual_seed(1))


def grouped(seed=0, epoch=0, offset=0):
    batches = GroupedBatches(LENGTHS, batch_size=8, seed=seed, pool=5)
    batches.set_epoch(epoch)
    batches.offset = offset
    return list(batches)


def padding(batches):
    return sum(int((LENGTHS[b].max() - LENGTHS[b]).sum()) for b in map(torch.tensor, batches))


def test_grouped_batches_hold_every_example_once():
    batches = grouped()
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert len(batches) == len(GroupedBatches(LENGTHS, 8, 0)) == 26
    assert sorted(map(len, batches)) == [3, *[8] * 25]


def test_grouped_batches_are_little_padded():
    assert padding(grouped()) < 0.4 * padding(list(SeededBatches(203, 8, seed=0)))


def test_an_order_is_that_of_its_seed_and_epoch():
    assert grouped(seed=3, epoch=2) == grouped(seed=3, epoch=2)
    assert grouped(seed=3, epoch=2) != grouped(seed=3, epoch=1)
    assert grouped(seed=3, epoch=2) != grouped(seed=4, epoch=2)


def test_an_interrupted_epoch_goes_on_with_its_next_batch():
    assert grouped(epoch=1, offset=7) == grouped(epoch=1)[7:]


def test_short_and_long_batches_are_mixed():
    longest = [int(LENGTHS[torch.tensor(batch)].max()) for batch in grouped()]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_the_longest_are_evaluated_first():
    order = [index for batch in LongestFirst(LENGTHS, 10) for index in batch]
    assert sorted(order) == list(range(203))
    assert LENGTHS[torch.tensor(order)].tolist() == sorted(LENGTHS.tolist(), reverse=True)


def test_a_tenth_is_held_out_whatever_the_subset():
    train, validation = hold_out(105)
    few, same = hold_out(105, 20)
    assert len(train) == 95 and len(validation) == 10
    assert not set(train.tolist()) & set(validation.tolist())
    assert few.tolist() == train[:20].tolist() and same.tolist() == validation.tolist()
    assert len(hold_out(400_000)[1]) == 5_000


@pytest.mark.parametrize("wanted", [0, 96, -1])
def test_a_subset_of_what_there_is(wanted):
    with pytest.raises(ConfigError, match=f"task.train_examples={wanted}: allowed are 1 to 95"):
        hold_out(105, wanted)
