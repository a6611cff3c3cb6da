"""Augmentation: what is drawn hangs on seed, epoch and example alone; each change by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from seven_bench.data.augment import Augment, Augmented
from seven_bench.data.making import make_data
from seven_bench.data.samplers import SeededBatches
from seven_bench.errors import ConfigError
from seven_bench.settings.identity import identify, recipe_part
from tests.data.synthetic import write_for
from tests.training.test_resume import QUICK, check_killed_equals_whole, kill_at  # noqa: F401

ALL = (
    "trainer.augment.flip=true", "trainer.augment.crop=padded", "trainer.augment.mixup=0.4",
    "trainer.augment.randaugment=rand-m9-n2-mstd0.5",
)  # fmt: skip


def data_of(make_config, tmp_path, *given, task="cifar10", workers=0):
    write_for(task, tmp_path / "data")
    config = make_config(
        f"task={task}", "model=tiny_vit", "start=init", f"data_root={tmp_path}/data",
        f"++task.data.workers={workers}", *given,
    )  # fmt: skip
    data = make_data(config, 4)
    data.setup()
    return data


def epoch(data, number=0):
    loader = data.train_dataloader()
    loader.batches.set_epoch(number)
    return list(loader), list(loader.batches)


def same(one, other) -> bool:
    return all(
        torch.equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("task", ["cifar10", "imagenet"])
def test_epoch_and_example_decide_and_nothing_else(make_config, tmp_path, task):
    given = (*ALL[:1], "trainer.augment.crop=resized", *ALL[2:]) if task == "imagenet" else ALL
    data = data_of(make_config, tmp_path, *given, task=task)
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first, _ = epoch(data)
    assert random.getstate() == state[0] and np.random.get_state()[1].tolist() == state[1]
    random.seed(5)
    np.random.seed(5)
    again, _ = epoch(data)
    assert same(first, again) and not same(first, epoch(data, 1)[0])
    by_others, _ = epoch(data_of(make_config, tmp_path, *given, task=task, workers=2))
    assert same(first, by_others)
    assert all(batch["targets"].sum(1).allclose(torch.ones(1)) for batch in first)


def test_not_the_batch_an_example_is_in(make_config, tmp_path):
    data = data_of(make_config, tmp_path, *ALL[:2], ALL[3])
    batches = SeededBatches(data.size("train"), 4, 7)
    batches.set_epoch(3)
    train = Augmented(data.splits["train"], data.augment, batches)
    together, alone = train[[3, 1, 2]], train[[1]]
    assert torch.equal(together["pixel_values"][1:2], alone["pixel_values"])
    plain = data.splits["train"][[1]]
    assert not torch.equal(plain["pixel_values"], alone["pixel_values"])
    assert torch.equal(plain["labels"], alone["labels"])
    # what scores see, and what is measured, is as it was
    assert data.calibration_batches(1, 4, 0).__next__()["pixel_values"].shape[0] == 4
    assert type(data.splits["train"]) is type(data.splits["test"])


def test_flip_and_padded_crop_by_hand():
    """An 8 x 8 picture that counts from 0: any change is a cut of it with one pixel around."""
    picture = Image.fromarray(np.arange(64, dtype=np.float32).reshape(8, 8))
    around = np.pad(np.arange(64.0).reshape(8, 8), 1, constant_values=-1)
    cuts = [around[top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
    wanted = [cut.tolist() for cut in cuts] + [cut[:, ::-1].tolist() for cut in cuts]
    how, found = Augment(10, flip=True, crop="padded"), set()
    for seed in range(200):
        random.seed(seed)
        changed = np.asarray(how.change(picture, 8, paper=-1)).tolist()
        found.add(wanted.index(changed))
    assert found == set(range(18))
    assert np.array_equal(np.asarray(Augment(10).change(picture, 8)), np.asarray(picture))


def test_mixup_by_hand():
    np.random.seed(3)
    share = float(np.random.beta(0.4, 0.4))
    np.random.seed(3)
    pixels, labels = torch.arange(3.0).view(3, 1, 1, 1), torch.tensor([2, 0, 1])
    mixed = Augment(4, mixup=0.4).mix({"pixel_values": pixels, "labels": labels})
    assert mixed["pixel_values"].flatten().tolist() == pytest.approx(
        [2 * (1 - share), 1, 2 * share]
    )
    assert mixed["targets"][0].tolist() == pytest.approx([0, 1 - share, share, 0])
    assert mixed["targets"][1].tolist() == pytest.approx([1, 0, 0, 0])
    assert mixed["labels"] is labels


def test_killed_in_an_epoch_equals_uninterrupted(make_config, kill_at, tmp_path):  # noqa: F811
    given = ("pruner=seven_dyn", *QUICK[:1], "trainer.max_epochs=2", *QUICK[2:], *ALL[:3])
    check_killed_equals_whole(make_config, kill_at, tmp_path, *given)


def test_it_is_a_recipe_and_an_identity(make_config):
    plain = make_config()
    assert not [key for key in recipe_part(plain) if "augment" in key]
    for override in ("trainer.augment.flip=true", "start.train.augment.mixup=0.1"):
        other = make_config(override)
        key, _, value = override.partition("=")
        assert str(recipe_part(other)[key]).lower() == value
        assert identify(other).run_id != identify(plain).run_id


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("task=glue/rte", "model=tiny_bert", "trainer.augment.flip=true"), "no images to change"),
        (("trainer.augment.randaugment=rand-m9",), "of task=digits have none; allowed is null"),
        (("trainer.augment.randaugment=augmix-m5",), "trainer.augment.randaugment=augmix-m5"),
        (("trainer.augment.crop=center",), "allowed are padded, resized"),
        (("start.train.augment.mixup=-1",), "allowed is a number from 0 to 100"),
    ],
)
def test_what_cannot_be_is_said(make_config, tmp_path, given, words):
    write_for("glue/rte", tmp_path / "data")
    with pytest.raises(ConfigError, match=words):
        make_config(*given, f"data_root={tmp_path}/data")
