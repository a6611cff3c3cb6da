"""Rounds are ordinary runs on a fixed ladder, each from the one below; real digits, shortened."""

import csv
import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet
from seven_bench.running import prune_and_train
from seven_bench.running.rounds import ladder, level_below
from seven_bench.running.run import run
from seven_bench.settings.identity import identify
from seven_bench.store.masks import load_masks
from seven_bench.store.record import read_record
from seven_bench.training.pruning_callback import PruningCallback
from tests.conftest import SHORT

QUICK = ("start=init", "trainer.max_epochs=2", *SHORT[2:])


@pytest.fixture
def starts(monkeypatch):
    """The weights that every training began from, in order."""
    seen = []
    fit = prune_and_train.fit

    def watched(module, *args, **kwargs):
        seen.append({name: v.clone() for name, v in module.model.state_dict().items()})
        return fit(module, *args, **kwargs)

    monkeypatch.setattr(prune_and_train, "fit", watched)
    return seen


def folder_of(config) -> Path:
    return identify(config).folder(config.output_root)


def levels(config) -> list:
    """The configs of all rounds, the dense one first."""
    found = [config]
    while (below := level_below(found[0])) is not None:
        found.insert(0, below)
    return found


def test_the_ladder_removes_a_fifth_of_what_remains():
    assert ladder(0.2, 0.9) == [
        0.2, 0.36, 0.488, 0.5904, 0.67232, 0.737856, 0.7902848, 0.83222784, 0.865782272,
        0.892625818, 0.9,
    ]  # fmt: skip
    assert ladder(0.2, 0.488) == [0.2, 0.36, 0.488]
    assert ladder(0.2, 0.1) == [0.1]
    assert ladder(None, 0.9) == [0.9]
    assert ladder(0.1, 0.7, "start") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert ladder(0.1, 0.45, "start") == [0.1, 0.2, 0.3, 0.4, 0.45]


def test_a_round_may_take_its_share_of_all_there_was(make_config):
    """A tenth of the original weights a round, as in arXiv 2007.12223; and too many rounds."""
    given = ("pruner=lth", "sparsity=0.3", "pruner.rounds.fraction=0.1", "pruner.rounds.of=start")
    config = make_config(*given, *QUICK)
    assert [level.sparsity for level in levels(config)] == [0.0, 0.1, 0.2, 0.3]
    with pytest.raises(ConfigError, match="a fraction from"):
        make_config(*given[:2], "pruner.rounds.fraction=0.0001", given[3])


def test_lth_rewinds_to_the_same_weights_in_every_round(make_config, starts):
    config = make_config("pruner=lth", "sparsity=0.5", *QUICK)
    record = run(config)
    rounds = levels(config)
    assert [level.sparsity for level in rounds] == [0.0, 0.2, 0.36, 0.488, 0.5]
    assert len(starts) == 5
    theta = starts[0]
    masks = [MaskSet(load_masks(folder_of(level) / "masks.safetensors")) for level in rounds]
    for began, mask, level in zip(starts, masks, rounds, strict=True):
        assert mask.kept == 196_608 - round(level.sparsity * 196_608)
        for name, value in began.items():
            wanted = theta[name] * mask[name] if name in mask else theta[name]
            assert torch.equal(value, wanted), name
    for lower, higher in itertools.pairwise(masks):
        assert not any(bool((higher[name] & ~lower[name]).any()) for name in higher)

    # the next round's masks are those of the largest trained weights of the round below
    trained = load_file(folder_of(rounds[1]) / "model.safetensors")
    kept = torch.cat([trained[n].abs()[m] for n, m in masks[2].items()]).min()
    gone = torch.cat([trained[n].abs()[masks[1][n] & ~m] for n, m in masks[2].items()]).max()
    assert kept >= gone

    own = 3 * 2 * 1259
    assert record["cost"]["example_equivalents"] == {
        "scoring": 0, "training": own, "rounds": 4 * own, "start": 0, "tuning": 0, "total": 5 * own
    }  # fmt: skip


def test_a_higher_target_trains_only_the_levels_that_are_missing(make_config, starts):
    run(make_config("pruner=lth", "sparsity=0.4", *QUICK))
    assert len(starts) == 4  # dense, 0.2, 0.36, 0.4
    higher = make_config("pruner=lth", "sparsity=0.45", *QUICK)
    run(higher)
    assert len(starts) == 5
    run(make_config("pruner=lth", "sparsity=0.36", *QUICK))
    run(make_config("pruner=dense", *QUICK))
    assert len(starts) == 5  # a level and the dense round are runs like any other


def test_the_learning_rate_ends_where_the_schedule_says_in_every_round(make_config):
    config = make_config("pruner=lrr", "sparsity=0.36", "trainer.warmup=0", *QUICK)
    run(config)
    for level in levels(config):
        with (folder_of(level) / "metrics.csv").open() as file:
            rates = [float(row["train/learning_rate"]) for row in csv.DictReader(file)]
        assert rates == pytest.approx([1e-3 / 2, 0.0])


def test_lrr_keeps_the_weights_and_starts_anew_the_schedule(make_config, starts):
    config = make_config("pruner=lrr", "sparsity=0.36", *QUICK)
    run(config)
    rounds = levels(config)
    for level, began in zip(rounds, starts[1:], strict=False):
        trained = load_file(folder_of(level) / "model.safetensors")
        for name, value in began.items():
            alive = value != 0
            assert torch.equal(value[alive], trained[name][alive])


def test_weights_are_rewound_to_a_step(make_config, starts):
    constant = ("trainer.lr_schedule=constant", "trainer.warmup=0")
    given = ("pruner=lth", "sparsity=0.36", "pruner.rounds.rewind=7it")
    config = make_config(*given, *constant, *QUICK)
    run(config)
    rounds = levels(config)
    assert [level.pruner.name for level in rounds] == ["lth"] * 3
    kept = load_file(folder_of(rounds[0]) / "rewind.safetensors")
    assert any(not torch.equal(kept[name], value) for name, value in starts[0].items())
    for level, began in zip(rounds[1:], starts[1:], strict=True):
        mask = MaskSet(load_masks(folder_of(level) / "masks.safetensors"))
        for name, value in began.items():
            wanted = kept[name] * mask[name] if name in mask else kept[name]
            assert torch.equal(value, wanted), name
    # seven steps of the same training, done by themselves, end in the same weights
    short = make_config("pruner=dense", "trainer.max_steps=7", "select=last", *constant, *QUICK)
    run(short)
    alone = load_file(folder_of(short) / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in alone.items())


def test_a_rewound_round_goes_on_with_the_learning_rates_of_its_step(make_config, monkeypatch):
    """Step 7 of 80: the rates of steps 8 to 80, once more; 73 steps of examples are billed."""
    rates: list[list[float]] = []
    watched = PruningCallback.on_before_optimizer_step

    def watch(self, trainer, module, optimizer):
        if trainer.global_step == 0:
            rates.append([])
        rates[-1].append(optimizer.param_groups[0]["lr"])
        watched(self, trainer, module, optimizer)

    monkeypatch.setattr(PruningCallback, "on_before_optimizer_step", watch)
    config = make_config("pruner=lth", "sparsity=0.2", "pruner.rounds.rewind=7it", *QUICK)
    record = run(config)
    dense, pruned = rates
    assert len(dense) == 80 and pruned == dense[7:]
    assert record["cost"]["example_equivalents"]["training"] == 3 * (1259 + 33 * 32)


def test_one_shot_after_prunes_what_was_trained(make_config, starts):
    score = ("pruner.score._target_=seven_bench.baselines.snip.SnipScore",
             "pruner.needs=[gradients]",
             "pruner.calibration={examples: 64, batch_size: 32}")  # fmt: skip
    for given in ((), score):
        starts.clear()
        config = make_config("pruner=one_shot_after", "sparsity=0.9", *given, *QUICK)
        record = run(config)
        dense = load_file(folder_of(levels(config)[0]) / "model.safetensors")
        mask = MaskSet(load_masks(folder_of(config) / "masks.safetensors"))
        assert mask.kept == 19_661
        for name, value in starts[-1].items():
            wanted = dense[name] * mask[name] if name in mask else dense[name]
            assert torch.equal(value, wanted)
        cost = record["cost"]["example_equivalents"]
        assert cost["scoring"] == (3 * 64 if given else 0)
        assert cost["rounds"] == 3 * 2 * 1259


def test_a_level_is_counted_once_and_the_start_once(make_config):
    config = make_config("pruner=lth", "sparsity=0.36", "start=dense", *SHORT)
    cost = run(config)["cost"]["example_equivalents"]
    own = 3 * 2 * 1259
    assert (cost["start"], cost["rounds"], cost["training"]) == (own, 2 * own, own)
    record = read_record(folder_of(config) / "result.json")
    assert record["start"] == "dense" and record["timing"] == "rounds"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("pruner.rounds.fraction=1", "fraction=1"),
        ("pruner.rounds.fraction=-0.5", "pruner.rounds.fraction=-0.5"),
        ("pruner.rounds.rewind=soon", "'soon'"),
        ("pruner.rounds=null", "fraction and rewind"),
    ],
)
def test_bad_rounds_are_refused_before_any_work(make_config, given, said):
    with pytest.raises(ConfigError, match=said):
        make_config("pruner=lth", given, *QUICK)


def test_a_step_that_training_does_not_have_is_refused(make_config):
    config = make_config("pruner=lth", "sparsity=0.2", "pruner.rounds.rewind=9000it", *QUICK)
    with pytest.raises(ConfigError, match="step 9000, but there are 80"):
        run(config)
