from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from seven_bench.commands.report import compare_families
from seven_bench.results.collect import collect, tabulate
from seven_bench.results.groups import split_groups
from seven_bench.results.overlap import measure_overlaps
from seven_bench.results.recipes import identify_recipe
from seven_bench.results.statistics import pair_by_seed, tabulate_scores
from seven_bench.results.tables import build_table, summarise_cells

from .synthetic import RECIPE, make_record, write_run


def test_one_group_a_task_model_and_start(tmp_path: Path) -> None:
    for task in ("digits", "mrpc"):
        for start in ("init", "dense"):
            write_run(tmp_path, make_record(task=task, start=start))
    groups = split_groups(collect([tmp_path]).records)
    assert [group.title for group in groups] == [
        "digits · vit_digits · start dense",
        "digits · vit_digits · start init",
        "mrpc · vit_digits · start dense",
        "mrpc · vit_digits · start init",
    ]


def test_what_cannot_be_compared_is_apart_and_dense_serves_every_pattern(tmp_path: Path) -> None:
    write_run(tmp_path, make_record(pruner="dense"))
    write_run(tmp_path, make_record())
    write_run(tmp_path, make_record(pattern="2:4", sparsity__target=0.5))
    write_run(tmp_path, make_record(metric__epoch="last", run_id="last", cell_id="last"))
    groups = split_groups(collect([tmp_path]).records)
    assert [(group.setting, len(group.runs), len(group.dense)) for group in groups] == [
        ("epoch best, pattern 2:4", 1, 1),
        ("epoch best, pattern unstructured", 1, 1),
        ("epoch last, pattern unstructured", 1, 0),
    ]


def test_dense_alone_is_a_group(tmp_path: Path) -> None:
    write_run(tmp_path, make_record(pruner="dense"))
    (group,) = split_groups(collect([tmp_path]).records)
    assert (group.methods, group.sparsities, group.setting) == ([], [], "")


def test_methods_are_named_by_control_distribution_and_timing(tmp_path: Path) -> None:
    write_run(tmp_path, make_record())
    write_run(tmp_path, make_record(control="shuffle"))
    write_run(tmp_path, make_record(pruner="random", distribution="global"))
    write_run(tmp_path, make_record(pruner="random", distribution="erk"))
    write_run(tmp_path, make_record(pruner="lamp", distribution="lamp"))
    (group,) = split_groups(collect([tmp_path]).records)
    assert sorted(group.methods) == [
        "lamp",
        "random · erk",
        "random · global",
        "snip",
        "snip · shuffle",
    ]


def test_given_masks_are_rows_named_by_whose_they_are(tmp_path: Path) -> None:
    for source in ("lth of glue/mnli", "lth of squad"):
        told = {"from": source, "kind": "run", "hash": "00", "example_equivalents": 5}
        for seed in (0, 1):
            where = f"{source[7:]}/{seed}"
            record = make_record(pruner="given_mask", masks=told, seed=seed, run_id=where)
            write_run(tmp_path, {**record, "cell_id": source[7:]})
    write_run(tmp_path, make_record(pruner="lth"))
    (group,) = split_groups(collect([tmp_path]).records)
    named = ["given_mask (lth of glue/mnli)", "given_mask (lth of squad)", "lth"]
    assert sorted(group.methods) == named
    assert group.runs.groupby("method").size().tolist() == [2, 2, 1]


def test_cells_that_differ_in_their_config_are_named_by_it(tmp_path: Path) -> None:
    for examples in (512, 64):
        for seed in (0, 1):
            cell = {"cell_id": f"cell{examples}", "run_id": f"{examples}/{seed}", "seed": seed}
            folder = write_run(tmp_path, make_record(**cell))
            config = (
                f"seed: {seed}\npruner: {{calibration: {{examples: {examples}}}, name: snip}}\n"
            )
            (folder / "config.yaml").write_text(config)
    (group,) = split_groups(collect([tmp_path]).records)
    assert sorted(group.methods) == [
        "snip · pruner.calibration.examples=512",
        "snip · pruner.calibration.examples=64",
    ]
    assert group.runs.groupby("method").size().tolist() == [2, 2]


def test_cells_without_configs_are_named_by_their_hash(tmp_path: Path) -> None:
    for cell in ("0123456789", "abcdefabcdef"):
        folder = write_run(tmp_path, make_record(cell_id=cell, run_id=cell))
        (folder / "config.yaml").write_text("{")  # cut short
    (group,) = split_groups(collect([tmp_path]).records)
    assert sorted(group.methods) == ["snip · 01234567", "snip · abcdefab"]


def test_order_is_by_the_highest_sparsity_then_the_next(tmp_path: Path) -> None:
    values = {
        "a": {0.5: 0.9, 0.9: 0.5},
        "b": {0.5: 0.8, 0.9: 0.7},
        "c": {0.5: 0.7},
        "d": {0.5: 0.6, 0.9: 0.6},
        "e": {0.5: 0.75},
        "f": {0.9: None},
    }
    for pruner, levels in values.items():
        for sparsity, value in levels.items():
            changes = {"sparsity__target": sparsity, "metric__value": value}
            write_run(tmp_path, make_record(pruner=pruner, **changes))
    (group,) = split_groups(collect([tmp_path]).records)
    assert group.methods == ["b", "d", "a", "e", "c", "f"]


def test_lower_is_better_turns_the_order(tmp_path: Path) -> None:
    for pruner, value in (("a", 0.5), ("b", 0.2)):
        changes = {"metric__name": "loss", "metric__higher_is_better": False}
        write_run(tmp_path, make_record(pruner=pruner, metric__value=value, **changes))
    (group,) = split_groups(collect([tmp_path]).records)
    assert group.methods == ["b", "a"]


# ---- Recipes


def test_a_row_of_one_epoch_is_not_beside_rows_of_ten(tmp_path: Path) -> None:
    for epochs, value in ((10, 0.9), (1, 0.95)):
        recipe = {**RECIPE, "trainer.max_epochs": epochs}
        for pruner in ("dense", "snip" if epochs == 10 else "grasp"):
            for seed in range(6):
                write_run(
                    tmp_path,
                    make_record(pruner=pruner, seed=seed, recipe=recipe, metric__value=value),
                )
    one, ten = sorted(split_groups(collect([tmp_path]).records), key=lambda g: g.setting)
    assert (one.setting, one.methods) == ("trainer.max_epochs 1", ["grasp"])
    assert (ten.setting, ten.methods) == ("trainer.max_epochs 10", ["snip"])
    assert one.differing == {"trainer.max_epochs": "1"}
    assert (len(one.dense), len(ten.dense)) == (6, 6)
    # Each is the best of its own table, and tested against its own dense runs.
    for group in (one, ten):
        assert {p.method for p in pair_by_seed(group, "dense")} == set(group.methods)
        assert "have another recipe; here: trainer.max_epochs" in build_table(group).caption
        assert [cell.best for cell in build_table(group).rows[-1].cells if cell] == [True]


def test_many_differences_are_a_number_in_the_title_and_listed_below(tmp_path: Path) -> None:
    for shift in range(2):
        recipe = {f"trainer.key{index}": index + shift for index in range(5)}
        write_run(tmp_path, make_record(recipe=recipe))
    for group in split_groups(collect([tmp_path]).records):
        assert group.setting.count("trainer.") == 3
        assert group.setting.endswith(f"recipe {group.recipe_id}")
        assert all(f"trainer.key{index}" in build_table(group).caption for index in range(5))


def test_records_without_a_recipe_are_apart_and_nothing_is_said_of_them(tmp_path: Path) -> None:
    for seed in range(6):
        for pruner in ("snip", "grasp"):
            write_run(tmp_path, make_record(pruner=pruner, seed=seed))
            old = make_record(pruner=pruner, seed=seed, recipe=None)
            del old["recipe"]
            write_run(tmp_path, old)
    known, unknown = sorted(split_groups(collect([tmp_path]).records), key=lambda g: g.setting)
    assert (known.setting, unknown.setting) == ("", "recipe unknown")
    assert known.alike and pair_by_seed(known, "snip")
    assert not unknown.alike and pair_by_seed(unknown, "snip") == []
    table = build_table(unknown)
    assert "nothing is bold and nothing is tested" in table.caption
    assert not any(cell.best for row in table.rows for cell in row.cells if cell)


def test_machines_part_no_runs_and_are_told(tmp_path: Path) -> None:
    """Seed 1 was run on both: it counts once."""
    for seed, threads in ((0, 1), (1, 8), (1, 1)):
        recipe = {**RECIPE, "trainer.threads": threads}
        write_run(tmp_path, make_record(seed=seed, recipe=recipe, method={"pruner.cut": "exact"}))
    (group,) = split_groups(collect([tmp_path]).records)
    assert (group.setting, group.methods, group.repeated) == ("", ["snip"], 1)
    assert sorted(group.runs["seed"]) == [0, 1]
    caption = build_table(group).caption
    assert "Computed on machines that differ: trainer.threads 1, 8." in caption
    assert "1 run is left out that other machines repeat." in caption


def test_variants_are_named_by_the_record(tmp_path: Path) -> None:
    for examples in (512, 3840):
        method = {"pruner.calibration.examples": examples, "pruner.cut": "exact"}
        write_run(tmp_path, make_record(method=method, cell_id=str(examples), run_id=f"{examples}"))
    (group,) = split_groups(collect([tmp_path]).records)
    assert sorted(group.methods) == [
        "snip \N{MIDDLE DOT} pruner.calibration.examples=3840",
        "snip \N{MIDDLE DOT} pruner.calibration.examples=512",
    ]


def test_recipes_of_many_keys_leave_no_fragments(tmp_path: Path) -> None:
    """pandas warns of frames in too many pieces, and a warning is an error here."""
    for epochs in (1, 2):
        recipe = {f"trainer.key{index}": index for index in range(120)} | {"epochs": epochs}
        write_run(tmp_path, make_record(recipe=recipe, method={f"m{i}": i for i in range(30)}))
    assert len(split_groups(collect([tmp_path]).records)) == 2


def test_a_number_is_the_same_however_it_is_written() -> None:
    assert identify_recipe({"a": 3, "b": [1, 2]}) == identify_recipe({"b": [1.0, 2], "a": 3.0})
    assert identify_recipe({"a": 1}) != identify_recipe({"a": True})
    assert identify_recipe({}) == identify_recipe(None) == identify_recipe("text") == ""


def test_small_dense_models_are_rows_but_never_best_or_tested_unasked(tmp_path: Path) -> None:
    """Better than both methods at 0.9; a pattern of one sparsity takes them there alone."""
    for seed in range(2):
        for name, pattern, sparsity, value in (
            ("dense", None, 0.0, 0.98), ("snip", "unstructured", 0.9, 0.8),
            ("grasp", "unstructured", 0.9, 0.7), ("wanda", "nm_2_4", 0.5, 0.9),
        ):  # fmt: skip
            write_run(tmp_path, make_record(pruner=name, seed=seed, sparsity__target=sparsity,
                                            pattern=pattern, metric__value=value))  # fmt: skip
        for sparsity in (0.5, 0.9):
            small = {"timing": "none", "pattern": "none", "small": {"kind": "width"}}
            write_run(tmp_path, make_record(pruner="small_width", seed=seed, metric__value=0.95,
                                            sparsity__target=sparsity, **small))  # fmt: skip
    groups = split_groups(collect([tmp_path]).records)
    nm, plain = sorted(groups, key=lambda group: len(group.methods))
    assert (nm.methods, nm.controls, nm.sparsities) == (["wanda"], ["small_width"], [0.5])
    assert plain.methods == ["snip", "grasp"] and plain.controls == ["small_width"]
    assert plain.setting == "pattern unstructured" and plain.sparsities == [0.9]
    table = build_table(plain, margin=0.5)
    best = {row.label: row.cells[0].best for row in table.rows}
    near = {row.label: row.cells[0].near for row in table.rows}
    assert best == {"dense": False, "majority class": False, "small_width": False, "snip": True,
                    "grasp": False}  # fmt: skip
    assert near["grasp"] and not near["small_width"]
    assert "in the place of pruned ones: small_width." in table.caption

    def compared(reference: str, methods: tuple[str, ...] = ()) -> list[str]:
        return [p.method for p in pair_by_seed(plain, reference, methods=methods)]

    assert compared("snip") == ["grasp", "dense"]
    assert compared("small_width") == ["snip", "grasp", "dense"]
    assert compared("snip", ("small_width",)) == ["small_width"]
    assert list(tabulate_scores([plain], 0.9).columns) == ["grasp", "snip"]
    assert measure_overlaps([plain], 2**20)[0].values == {}


def by_folds(*, draws: int = 1) -> pd.DataFrame:
    """Dense and snip over two folds x two seeds; snip gains 0.01 a fold, 0.1 a seed."""
    records = []
    for split in range(2):
        for seed in range(2):
            base = {"seed": seed, "metric__value": 0.5, "metrics__folds": 2}
            where = {"split": split, "calibration": None}
            key = f"{split}/{seed}"
            records.append(make_record(**base, pruner="dense", seeds=where, run_id=f"d{key}"))
            for draw in range(draws):
                value = 0.5 + 0.01 * split + 0.1 * seed + 0.002 * draw
                own = {"seeds": {**where, "calibration": draw}, "metric__value": value}
                records.append(make_record(**{**base, **own}, run_id=f"s{key}/{draw}"))
    return tabulate((record, Path(record["run_id"])) for record in records)


def test_a_replicate_is_a_split_and_a_seed():
    (group,) = split_groups(by_folds())
    (pairing,) = pair_by_seed(group, "dense")
    assert pairing.differences == pytest.approx((0, 0.1, 0.01, 0.11))
    assert summarise_cells(group)["snip", 0.9].n == 4
    caption = build_table(group).caption
    assert "over 2 folds x 2 seeds (number of runs)" in caption
    told = "eeds of one fold share its images and training data, so tests speak of these folds"
    assert f"S{told}." in caption
    ((title, _),) = compare_families([group], "dense", (), (), None)
    assert title.endswith(f"against dense: a family of 1 test; s{told}")


def test_seeds_of_one_split_and_one_seed_of_each_fold_are_not_nested():
    records = by_folds()
    for some in (records[records["seeds.split"] == 0], records[records["seed"] == 0]):
        (group,) = split_groups(some)
        assert "so tests speak of" not in build_table(group).caption


def test_draws_of_calibration_are_averaged_before_they_pair():
    (group,) = split_groups(by_folds(draws=3))
    (pairing,) = pair_by_seed(group, "dense")
    assert pairing.differences == pytest.approx((0.002, 0.102, 0.012, 0.112))
    assert "2 folds x 2 seeds x 3 calibration draws" in build_table(group).caption


def test_of_folds_all_scored_examples_are_told():
    (group,) = split_groups(by_folds())
    assert "The 720 test examples alone" in build_table(group).caption


def test_records_from_before_seeds_had_names_are_of_one_split():
    records = [make_record(pruner="dense"), make_record(seed=1)]
    frame = tabulate((record, Path("x")) for record in records)
    assert frame["seeds.split"].tolist() == [0, 0]
    (group,) = split_groups(frame)
    assert "over seeds (number of seeds)" in build_table(group).caption
