from __future__ import annotations

from pathlib import Path

from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups

from .synthetic import make_record, write_run


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
