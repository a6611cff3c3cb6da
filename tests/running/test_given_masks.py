"""Masks of another run, or of a file: transferred bit for bit, trained, and told for what they are.

Real digits, a few steps.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seven_bench.errors import ConfigError
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.running.dry_run import estimate
from seven_bench.running.run import run
from seven_bench.settings.checks import stored
from seven_bench.settings.given_masks import shortest, tell_source
from seven_bench.settings.identity import dense_start, identify, method_part
from seven_bench.store.masks import load_masks
from seven_bench.store.record import read_record, write_record

TOTAL = 196_608  # prunable weights of vit_digits
QUICK = (
    "start=init", "trainer.max_epochs=1", "trainer.max_steps=6", "logger=none", "progress=false",
)  # fmt: skip
FOLD = ("task=digits_folds", "data.split_seed=1")  # another task of the same model


def folder_of(config) -> Path:
    return identify(config).folder(config.output_root)


def masks_in(folder: Path) -> dict:
    return load_masks(folder / "masks.safetensors")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def given(make_config, root):
    """Settings of a run with masks, among the outputs of this file; QUICK but for what is typed."""

    def make(masks, *overrides):
        typed = {override.partition("=")[0] for override in overrides}
        quick = [override for override in QUICK if override.partition("=")[0] not in typed]
        where = (f"pruner.masks={masks}", f"output_root={root}", *quick)
        return make_config("pruner=given_mask", *where, *overrides)

    return make


@pytest.fixture
def source(make_config, root):
    """The folder of a lottery ticket of a seed, and its settings."""

    def make(seed=0, **changes):
        config = make_config(
            "pruner=lth", "sparsity=0.2", f"seed={seed}", f"output_root={root}", *QUICK
        )
        run(config)
        return folder_of(config), config

    return make


@pytest.fixture
def file_of(tmp_path, source):
    """A file of the ticket's masks, as somebody else may have written it."""

    def make(name="theirs.safetensors", **changes):
        masks = {key: mask.to(torch.uint8) for key, mask in masks_in(source()[0]).items()}
        save_file({k: v for k, v in {**masks, **changes}.items() if v is not None}, tmp_path / name)
        return tmp_path / name

    return make


def test_a_ticket_on_its_own_task_is_the_ticket_bit_for_bit(given, source):
    folder, config = source()
    again = given(folder)
    record = run(again)
    assert again.sparsity == 0.2 and record["pruner"] == "given_mask"
    one, other = (load_file(where / "model.safetensors") for where in (folder, folder_of(again)))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    assert record["mask_hash"] == read_record(folder / "result.json")["mask_hash"]
    assert identify(again).run_id != identify(config).run_id


def test_a_ticket_moves_to_another_task(given, source, root):
    """The mask is the source's, its run trains, and its record says from where and at what cost."""
    folder, _ = source()
    pattern = f"{root}/runs/digits/vit_digits/lth/s0.2/seed${{seed}}-*"
    config = given(pattern, *FOLD, "trainer.max_steps=40", "trainer.max_epochs=2")
    record, found = run(config), read_record(folder / "result.json")
    masks, moved = masks_in(folder), masks_in(folder_of(config))
    assert masks.keys() == moved.keys() and all(masks[name].equal(moved[name]) for name in masks)
    state = load_file(folder_of(config) / "model.safetensors")
    assert all(not bool(state[name][~mask].any()) for name, mask in moved.items())
    assert record["metric"]["value"] > 0.3  # of ten classes
    assert record["params"]["kept"] == TOTAL - round(0.2 * TOTAL)

    told = record["masks"]
    assert (told["from"], told["kind"]) == ("lth of digits", "run")
    assert {name: told[name] for name in ("run_id", "seed", "mask_hash", "task", "model")} == {
        name: found[name] for name in ("run_id", "seed", "mask_hash", "task", "model")
    }
    bill, theirs = (r["cost"]["example_equivalents"] for r in (record, found))
    assert theirs["total"] > 0 and bill["masks"] == told["example_equivalents"] == theirs["total"]
    assert bill["total"] == bill["training"] + theirs["total"]
    assert read_record(folder_of(config) / "result.json") == record
    assert identify(stored(folder_of(config))) == identify(config)


def test_a_sweep_takes_the_masks_of_each_seed_and_sparsity(given, source, root, monkeypatch):
    folder, _ = source()
    for pattern in ("seed$seed-*", "seed${seed}-*"):
        moved = given(f"{root}/runs/digits/vit_digits/lth/s$sparsity/{pattern}", "sparsity=0.2")
        assert moved.pruner.masks == f"{folder.parent}/seed0-*"
    monkeypatch.chdir(folder.parents[1])  # a message has room for a short path
    with pytest.raises(ConfigError, match=r"s0\.7/seed1-\*: nothing matches it"):
        given("s$sparsity/seed$seed-*", "sparsity=0.7", "seed=1")


def test_seeds_of_one_source_are_replicates_of_one_row(given, source, root):
    pattern = f"{root}/runs/digits/vit_digits/lth/s0.2/seed${{seed}}-*"
    configs = []
    for seed in (0, 1):
        source(seed)
        configs.append(given(pattern, *FOLD, f"seed={seed}"))
    other = given(source(0)[0], *FOLD, "seed=1")  # the mask of another seed
    zero, one = map(identify, configs)
    assert zero.cell_id == one.cell_id == identify(other).cell_id
    assert len({zero.run_id, one.run_id, identify(other).run_id}) == 3
    assert method_part(configs[0]) == method_part(configs[1]) == method_part(other)
    records = [run(config) for config in (*configs, other)]
    assert [r["seeds"]["calibration"] for r in records] == [0, 1, 0]
    assert records[0]["mask_hash"] == records[2]["mask_hash"] != records[1]["mask_hash"]
    (group,) = split_groups(collect([folder_of(c) for c in (*configs, other)]).records)
    assert group.methods == ["given_mask (lth of digits)"]
    values = group.by_seed["given_mask (lth of digits)", 0.2]
    mean = (records[1]["metric"]["value"] + records[2]["metric"]["value"]) / 2
    assert values.tolist() == pytest.approx([records[0]["metric"]["value"], mean])


def test_masks_count_by_content_and_source_and_never_by_path(given, source, file_of, tmp_path):
    folder, _ = source()
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied)
    here = identify(given(folder))
    for path in (copied, copied / "masks.safetensors", copied / "model.safetensors"):
        assert identify(given(path)) == here
    file, again = file_of(), file_of("again.safetensors")
    assert identify(given(file)) == identify(given(again)) != here
    named = given(file, "pruner.masks_name=theirs")
    assert tell_source(named)["from"] == "theirs" and identify(named) != identify(given(file))
    first = next(iter(masks_in(folder)))
    moved = file_of("moved.safetensors", **{first: masks_in(folder)[first].flip(0)})
    assert identify(given(moved)).run_id != identify(given(file)).run_id
    renamed = given(moved, "pruner.masks_name=theirs")  # whoever calls both one says so
    assert identify(renamed).cell_id == identify(named).cell_id
    assert identify(dense_start(given(file, "start=dense"))) == identify(
        dense_start(given(folder, "start=dense"))
    )


def test_what_a_file_has_cost_is_unknown_and_never_nothing(given, file_of):
    config = given(file_of(), "pruner.masks_name=theirs", "start=dense", "start.train.max_epochs=1")
    record = run(config)
    bill = record["cost"]["example_equivalents"]
    assert record["masks"]["example_equivalents"] == "unknown"
    assert bill["masks"] is None and bill["total"] is None and bill["start"] > 0
    assert record["start"] == "dense" and record["seeds"]["calibration"] is None
    text = json.loads((folder_of(config) / "result.json").read_text())
    assert text["masks"]["from"] == "theirs"
    table = collect([folder_of(config)]).records
    assert table["cost.example_equivalents.total"].isna().all()


def test_a_dense_start_that_both_have_is_billed_once(make_config, given, root):
    dense = ("start=dense", "start.train.max_epochs=1", f"output_root={root}", *QUICK[1:])
    config = make_config("pruner=magnitude", "sparsity=0.5", *dense)
    found = run(config)["cost"]["example_equivalents"]
    assert found["start"] > 0
    same = run(given(folder_of(config), *dense[:2]))["cost"]["example_equivalents"]
    assert same["masks"] == found["total"] - found["start"]
    assert same["total"] == same["start"] + same["masks"] + same["training"]
    other = run(given(folder_of(config), *dense[:2], "seed=1"))["cost"]["example_equivalents"]
    assert other["masks"] == found["total"]  # the start of another seed is another run


def test_masks_of_weights_begin_from_weights(given, source, tmp_path):
    """`start=pretrained`, and a model.safetensors whose zeros are the mask: its count is asked."""
    folder, _ = source()
    shutil.copy(folder / "model.safetensors", tmp_path)
    weights = (f"model.pretrained={tmp_path}", "start=pretrained")
    with pytest.raises(ConfigError, match=r"sparsity=null: .*holds weights, of which the model"):
        given(tmp_path, *weights)
    record = run(given(tmp_path, *weights, "sparsity=0.2"))
    assert record["mask_hash"] == read_record(folder / "result.json")["mask_hash"]
    assert record["masks"]["kind"] == "file"
    with pytest.raises(ConfigError, match=r"58,982 of 196,608 .* removes 39,322: allowed is 0\.2$"):
        run(given(tmp_path, *weights, "sparsity=0.3"))


@pytest.mark.parametrize("pattern", ["row", "head"])
def test_a_source_brings_its_pattern(make_config, given, root, pattern):
    quick = (f"pattern={pattern}", "sparsity=0.5", f"output_root={root}", *QUICK)
    folder = folder_of(config := make_config("pruner=magnitude", *quick))
    hashed = run(config)["mask_hash"]
    moved = given(folder, *FOLD)
    assert (moved.pattern, moved.sparsity) == (pattern, 0.5)
    assert run(moved)["mask_hash"] == hashed


def test_what_does_not_fit_is_one_line_before_any_work(given, file_of, source, tmp_path):
    masks = masks_in(source()[0])
    first, *_, last = masks
    short, gone = masks[first][:-1].to(torch.uint8), int(masks[first][-1:].sum())
    wrong = {
        "named": ({"blocks.9.weight": short, first: None}, r"blocks\.9\.weight is no prunable wei"),
        "lacking": ({last: None}, rf"{last} is missing: all 16 prunable weights of model=vit_digi"),
        "shaped": ({first: short}, rf"{first} has shape \(191, 64\): that of .* is \(192, 64\)"),
    }
    for name, (changes, words) in wrong.items():
        config = given(file_of(f"{name}.safetensors", **changes), "start=dense")
        assert "\n" not in (fault := estimate(config, {}).fault) and f"{name}.safetensors" in fault
        with pytest.raises(ConfigError, match=words) as caught:
            run(config)
        assert str(caught.value) == fault
        assert not folder_of(config).exists() and not folder_of(dense_start(config)).exists()
    assert gone > 0 and estimate(given(file_of(), "start=dense"), {}).fault == ""

    odd = masks[first].float()
    odd[1, 2] = 0.5
    typed = {
        rf"{first} holds 0\.5 at \[1, 2\]: masks hold": (file_of("o.safetensors", **{first: odd}),),
        r"sparsity=0\.5: 98,304 of 196,608 .* removes 39,322: allowed is 0\.2, or null": (
            file_of(), "sparsity=0.5"),
        "nothing matches it": (tmp_path / "no*",),
        r"5 paths match it \(lacking\.safetensors, named\.saf.*, \.\.\.\)": (tmp_path / "*",),
        "pruner=given_mask ranks no weights": (file_of(), "control=invert"),
        "timing can be before": (file_of(), "pruner.timing=rounds"),
        r"pruner\.masks=null: pruner=given_mask is given its masks": ("null", "sparsity=0.2"),
    }  # fmt: skip
    for words, overrides in typed.items():
        with pytest.raises(ConfigError, match=words) as caught:
            given(*overrides)
        assert "\n" not in str(caught.value)


def test_masks_of_another_pattern_are_refused(make_config, given, file_of, root):
    with pytest.raises(ConfigError, match=r"removes 39,322 of 196,608 weights, .* pattern=row"):
        given(file_of(), "pattern=row", "sparsity=0.2")
    half = make_config("pruner=magnitude", "sparsity=0.5", f"output_root={root}", *QUICK)
    run(half)
    fault = estimate(given(folder_of(half), "pattern=row", "sparsity=0.5"), {}).fault
    assert "the mask of blocks.0.attn.qkv.weight is none of this pattern at sparsity=0.5" in fault
    with pytest.raises(ConfigError, match=r"pruner\.masks: pruner=snip finds its own; allowed is"):
        make_config("pruner=snip", f"+pruner.masks={file_of()}")


def test_a_run_of_which_something_was_altered_is_no_source(given, source, tmp_path):
    folder, _ = source()
    debug, altered = tmp_path / "debug", tmp_path / "altered"
    for copied in (debug, altered):
        shutil.copytree(folder, copied)
    record = read_record(folder / "result.json")
    write_record(debug / "result.json", {**record, "debug": True})
    with pytest.raises(ConfigError, match="is a run of debug=true, whose masks mean nothing"):
        given(debug)
    content = bytearray((altered / "masks.safetensors").read_bytes())
    content[-1] ^= 1
    (altered / "masks.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="does not fit its checksum"):
        given(altered)


def test_the_shortest_number_that_removes_as_many():
    assert [shortest(kept, 10) for kept in (10, 3, 1)] == [0, 0.7, 0.9]
    assert shortest(TOTAL - round(0.36 * TOTAL), TOTAL) == 0.36
    assert shortest(84_934_656 - round(0.7 * 84_934_656), 84_934_656) == 0.7
    assert shortest(TOTAL - 1, TOTAL) == 0.000005  # 0.98 of a weight: one
