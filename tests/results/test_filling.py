"""Which command makes the runs of a published row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from seven_bench.results.filling import Suite
from seven_bench.results.published import Row, list_papers, read_paper
from seven_bench.settings.conf import conf_dir

ROW = Row(
    source="S",
    locator="table 1",
    kind="table",
    task="glue/mrpc",
    model="bert_base",
    method="snip",
    metric="accuracy",
    value=0.8,
    tolerance=0.01,
    start="pretrained",
    sparsity=0.5,
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "pruner=snip sparsity=0.5 seed=0,1,2,3,4"),
        ({"seeds": 3}, "seed=0,1,2"),
        ({"method": "dense"}, "pruner=dense seed=0,1,2,3,4"),
        ({"kd": True, "epochs": 3.0, "lr": 2e-5}, "finetune.distill=true trainer.max_epochs=3"),
        ({"pattern": "nm_2_4", "distribution": "er"}, "pattern=nm_2_4 distribution=er"),
        ({"control": "reinit"}, "control=reinit"),
        ({"linears": 73}, "prunable.include=[pooler]"),
        ({"epochs": 0.0}, "trainer.max_epochs=0"),
    ],
)
def test_a_row_becomes_keys(changes: dict[str, Any], words: str) -> None:
    filling = Suite(conf_dir()).fill(replace(ROW, **changes))
    assert filling.command.startswith(
        "python -m seven_bench -m task=glue/mrpc model=bert_base start=pretrained "
    )
    assert words in filling.command and not filling.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "smp_s"}, "the suite has no pruner smp_s"),
        ({"model": "llama2_7b"}, "the suite has no model llama2_7b"),
        ({"finetune": "frozen"}, "the suite has no finetune frozen"),
        ({"pattern": "nm_1_2"}, "the suite has no pattern nm_1_2"),
        ({"sparsity": None}, "the source states no sparsity"),
        (
            {"method": "lth", "control": "shuffle"},
            "the suite's controls are for methods before training",
        ),
        (
            {"method": "gmp", "epochs": 0.0},
            "a method at work during training needs an epoch of it",
        ),
        ({"hardware": "RTX 3090"}, "times and memory belong to their machine"),
    ],
)
def test_what_the_suite_lacks_is_said(changes: dict[str, Any], reason: str) -> None:
    filling = Suite(conf_dir()).fill(replace(ROW, **changes))
    assert (filling.command, filling.reason) == ("", reason)


def test_an_experiment_is_named_only_where_it_lists_the_row() -> None:
    suite = Suite(conf_dir())
    listed = replace(ROW, experiment="paper/seven_mrpc_sst2")
    assert suite.fill(listed).command == "python -m seven_bench experiment=paper/seven_mrpc_sst2"
    for changes in ({"task": "glue/rte"}, {"sparsity": 0.55}, {"kd": True}):
        assert "experiment" not in suite.fill(replace(listed, **changes)).command


def test_masks_of_another_task_are_found_first() -> None:
    suite = Suite(conf_dir())
    rows = [row for row in _rows("bert_tickets") if row.masks is not None]
    found = {row.masks: suite.fill(row) for row in rows}
    both = (
        "python -m seven_bench experiment=paper/bert_tickets_masks && "
        "python -m seven_bench experiment=paper/bert_tickets_transfer"
    )
    assert found["lth of squad"].command == found["lth of glue/rte"].command == both
    assert found["lth of mlm"].reason == "the suite has no task mlm to find masks with"
    given = {"method": "given_mask", "masks": "lth of glue/mnli", "sparsity": 0.7}
    alone = suite.fill(replace(ROW, **given))
    path = "outputs/runs/glue-mnli/bert_base/lth/s0.7/seed${seed}-*"
    assert f" pruner=given_mask 'pruner.masks={path}' sparsity=0.7 " in alone.command
    listed = replace(rows[0], sparsity=0.6)  # no mask of the experiment's is of that
    assert "-m task=" in suite.fill(listed).command


def test_every_key_of_every_command_composes() -> None:
    """A command that cannot be typed would be worse than none."""
    suite = Suite(conf_dir())
    rows = [row for name in list_papers(conf_dir() / "paper") for row in _rows(name)]
    typed = {suite.fill(row).command for row in rows}
    single = sorted(command for command in typed if " -m task=" in command)
    assert single
    # One command a set of keys: composing takes a second.
    kinds = {tuple(word.partition("=")[0] for word in c.split()[4:]): c for c in single}
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        for command in kinds.values():
            words = [word for word in command.split()[4:] if not word.startswith("seed=")]
            assert compose("config", words)["task"]["name"] in command


def _rows(name: str) -> tuple[Row, ...]:
    return read_paper(conf_dir() / "paper" / f"{name}.yaml").rows
