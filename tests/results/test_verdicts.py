"""Synthetic records held against published rows: each kind of verdict, each kind of claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from seven_bench.results.collect import collect
from seven_bench.results.published import read_paper
from seven_bench.results.verdicts import (
    MATCHED,
    NO_RUNS,
    NOT_COMPARABLE,
    NOT_MATCHED,
    NOT_OURS,
    OFFICIAL,
    Checked,
    check_claims,
    check_rows,
    split_cells,
)
from seven_bench.settings.identity import conf_dir

from .synthetic import make_record, write_run

PAPERS = conf_dir() / "paper"
SEVEN, DENSE = (read_paper(PAPERS / f"{name}.yaml") for name in ("seven", "dense"))


def write_cell(
    root: Path,
    pruner: str,
    values: Sequence[float],
    *,
    task: str = "glue/mrpc",
    model: str = "bert_base",
    sparsity: float = 0.0,
    subset: float = 1.0,
    scored: float = 1.0,
    epochs: int = 10,
    distill: bool = False,
    config: bool = True,
    **changes: Any,
) -> None:
    """Runs of one cell, a seed a value, on all of the official data unless told otherwise."""
    train, test = OFFICIAL[task]
    for seed, value in enumerate(values):
        record = make_record(
            task=task,
            model=model,
            pruner=pruner,
            start=changes.get("start", "pretrained"),
            finetune=changes.get("finetune", "full"),
            pattern=changes.get("pattern", "unstructured"),
            control=changes.get("control", "none"),
            timing=changes.get("timing", "before"),
            seed=seed,
            cell_id=changes.get("cell_id", ""),
            sparsity__target=sparsity,
            sparsity__encoder=sparsity,
            metric__value=value,
            metric__split=changes.get("split", "dev"),
            metrics__test_examples=round(scored * test),
            cost__example_equivalents__training=round(3 * epochs * 0.9 * subset * train),
        )
        if "trained" in changes:
            record["metrics"]["train_examples"] = changes["trained"]
        folder = write_run(root, record)
        settings = {
            "trainer": {"max_epochs": epochs, "max_steps": None, "lr": 2e-5, "batch_size": 32},
            "finetune": {"name": "full", "distill": distill},
        }
        if config:
            (folder / "config.yaml").write_text(yaml.safe_dump(settings))


Check = Callable[..., Checked]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """The row of a method at a sparsity on MRPC, after the cells below the test's folder."""

    def find(method: str, sparsity: float, task: str = "glue/mrpc") -> Checked:
        cells = split_cells(collect([tmp_path]).records)
        (found,) = (
            item
            for item in check_rows(SEVEN, cells, DENSE)
            if (item.row.task, item.row.method, item.row.sparsity) == (task, method, sparsity)
        )
        return found

    return find


def words(checked: Checked, matters: bool) -> str:
    return "; ".join(d.words for d in checked.differences if d.matters is matters)


def test_within_the_tolerance_is_matched(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", [0.86, 0.87])
    write_cell(tmp_path, "snip", [0.75, 0.77], sparsity=0.5)  # 0.7526, read off a figure: a point
    found = check("snip", 0.5)
    assert found.verdict == MATCHED
    assert (found.ours.mean, found.ours.n) == (pytest.approx(0.76), 2)
    assert found.gap == pytest.approx(0.0074)
    assert words(found, True) == ""
    assert words(found, False) == (
        "not stated in the source: epochs, learning rate, batch size, which epoch is measured "
        "(ours: best)"
    )


def test_beyond_it_is_not_matched_either_way(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", [0.86])
    write_cell(tmp_path, "snip", [0.70], sparsity=0.5)
    write_cell(tmp_path, "grasp", [0.90], sparsity=0.5)
    assert check("snip", 0.5).verdict == NOT_MATCHED
    assert check("grasp", 0.5).verdict == NOT_MATCHED
    assert check("grasp", 0.5).gap > 0


def test_a_reconstruction_refutes_nothing(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", [0.86])
    write_cell(tmp_path, "seven_pre", [0.70], sparsity=0.5)
    assert check("seven_pre", 0.5).verdict == NOT_OURS == "not matched by our reconstruction"


def test_no_runs_is_said(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "snip", [0.75], sparsity=0.6)
    found = check("snip", 0.5)
    assert found.verdict == NO_RUNS and math.isnan(found.gap)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "minilm"}, "model: ours minilm, published bert_base"),
        ({"subset": 0.5}, "trained on 1,651 of 3,668 examples"),
        ({"scored": 0.5}, "scored on 204 of 408 examples"),
        ({"start": "dense"}, "start: ours dense, published pretrained"),
        ({"split": "test"}, "split: ours test, published dev"),
        ({"finetune": "lora"}, "fine-tuning: ours lora, published full"),
        ({"pattern": "nm_2_4"}, "pattern: ours nm_2_4, published unstructured"),
        ({"distill": True}, "distillation: ours yes, published no"),
        ({"config": False}, "the size of the training set is not recorded"),
        ({"timing": "after"}, "the size of the training set is not recorded"),
        ({"trained": 1_000}, "trained on 1,000 of 3,668 examples"),
    ],
)
def test_another_setting_is_never_matched(
    tmp_path: Path, check: Check, changes: dict[str, Any], told: str
) -> None:
    write_cell(tmp_path, "snip", [0.7526], sparsity=0.5, **changes)  # the published value itself
    found = check("snip", 0.5)
    assert found.verdict == NOT_COMPARABLE
    assert told in words(found, True)


def test_epochs_matter_beyond_a_factor_of_two(tmp_path: Path) -> None:
    paper = read_paper(PAPERS / "platon.yaml")
    value = 0.843
    for epochs, verdict in ((8, MATCHED), (4, NOT_COMPARABLE), (21, NOT_COMPARABLE)):
        root = tmp_path / str(epochs)
        write_cell(root, "platon", [value], sparsity=0.9, epochs=epochs)
        (found,) = (
            item
            for item in check_rows(paper, split_cells(collect([root]).records))
            if item.row.task == "glue/mrpc" and item.verdict != NO_RUNS
        )
        assert found.verdict == verdict
        told = words(found, verdict == NOT_COMPARABLE)
        assert f"epochs: ours {epochs}, published 10" in told
        assert "learning rate: ours 2e-05, published 0.0001" in words(found, False)
        assert "batch size: ours 32, published 8" in words(found, False)


def test_a_dense_baseline_that_misses_makes_the_rest_void(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", [0.70])
    write_cell(tmp_path, "snip", [0.7526], sparsity=0.5)
    found = check("snip", 0.5)
    assert found.verdict == NOT_COMPARABLE
    assert words(found, True) == (
        "our dense baseline has accuracy 70.00, published ones 85.20 to 87.70"
    )


def test_without_a_dense_baseline_it_is_said(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "snip", [0.7526], sparsity=0.5)
    found = check("snip", 0.5)
    assert found.verdict == MATCHED
    assert "our dense baseline is not there: it cannot be checked" in words(found, False)


def test_a_bound_is_met_on_its_side(tmp_path: Path, check: Check) -> None:
    for value, verdict in ((0.30, MATCHED), (0.709, MATCHED), (0.72, NOT_MATCHED)):
        write_cell(tmp_path, "force", [value], task="glue/mnli", sparsity=0.9)  # "< 70"
        assert check("force", 0.9, "glue/mnli").verdict == verdict


def test_sparsity_is_that_of_the_papers_denominator(tmp_path: Path, check: Check) -> None:
    """With the pooler pruned too, 0.5 of the prunable may be another sparsity of the encoder."""
    record = make_record(
        task="glue/mrpc", model="bert_base", sparsity__target=0.5, sparsity__encoder=0.52
    )
    write_run(tmp_path, record)
    assert check("snip", 0.5).verdict == NO_RUNS


def test_the_nearest_setting_is_taken_whatever_its_value(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "snip", [0.7526], sparsity=0.5, model="minilm")
    write_cell(tmp_path, "snip", [0.60], sparsity=0.5)
    found = check("snip", 0.5)
    assert (found.verdict, found.others) == (NOT_MATCHED, 1)


def test_controls_are_not_the_method(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "snip", [0.7526], sparsity=0.5, control="shuffle")
    assert check("snip", 0.5).verdict == NO_RUNS


def test_times_belong_to_their_machine(tmp_path: Path) -> None:
    paper = read_paper(PAPERS / "nn_pruning.yaml")
    rows = [row for row in paper.rows if row.hardware is not None]
    assert rows and {row.metric for row in rows} == {"speedup"}
    root = tmp_path / "outputs"
    record = make_record(
        task="squad",
        model="bert_base",
        pruner="hybrid",
        sparsity__target=0.59,
        metrics__speedup=1.84,
    )
    write_run(root, record)
    found = [c for c in check_rows(paper, split_cells(collect([root]).records)) if c.ours.n]
    assert [item.verdict for item in found] == [NOT_COMPARABLE]
    assert "times and memory belong to their machine (RTX 3090)" in words(found[0], True)


# ---- Claims


def claim(root: Path, above: str, below: str, sparsity: float, task: str) -> Any:
    (found,) = (
        item
        for item in check_claims(SEVEN, split_cells(collect([root]).records))
        if (item.claim.above.method, item.claim.below.method) == (above, below)
        and (item.claim.above.sparsity, item.claim.above.task) == (sparsity, task)
    )
    return found


def test_a_claim_with_enough_seeds_holds(tmp_path: Path) -> None:
    base = [0.75, 0.76, 0.74, 0.75, 0.77, 0.73]
    write_cell(tmp_path, "snip", base, task="glue/mnli", sparsity=0.8)
    better = [value + gain for value, gain in zip(base, (3e-2, 4e-2, 5e-2) * 2, strict=True)]
    write_cell(tmp_path, "seven_pre", better, task="glue/mnli", sparsity=0.8)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert (found.words, found.pairs) == ("holds", 6)  # the only claim with runs: one test, 6 seeds
    assert found.gain == pytest.approx(0.04) and found.low < 0.04 < found.high
    assert found.p == pytest.approx(2 / 2**6)
    assert not any(difference.matters for difference in found.differences)


def test_a_claim_turned_over_is_contradicted(tmp_path: Path) -> None:
    write_cell(tmp_path, "snip", [0.80, 0.81, 0.82] * 2, task="glue/mnli", sparsity=0.8)
    write_cell(tmp_path, "seven_pre", [0.75] * 6, task="glue/mnli", sparsity=0.8)
    assert claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli").words == "contradicted"


def test_no_order_is_neither(tmp_path: Path) -> None:
    write_cell(tmp_path, "snip", [0.80, 0.70] * 3, task="glue/mnli", sparsity=0.8)
    write_cell(tmp_path, "seven_pre", [0.75] * 6, task="glue/mnli", sparsity=0.8)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert found.words == "neither shown nor contradicted"


def test_few_seeds_are_not_tested(tmp_path: Path) -> None:
    write_cell(tmp_path, "snip", [0.70] * 3, task="glue/mnli", sparsity=0.8)
    write_cell(tmp_path, "seven_pre", [0.80] * 3, task="glue/mnli", sparsity=0.8)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert found.words == "too few seeds to test (3 of 6)"
    assert found.gain == pytest.approx(0.1) and math.isnan(found.p)


def test_a_margin_is_part_of_the_claim(tmp_path: Path) -> None:
    """SEVENpre above SNIP by more than 5 points: 4 are not enough, 6 are."""
    for gain, told in ((0.04, "contradicted"), (0.06, "holds")):
        write_cell(tmp_path, "snip", [0.70] * 6, sparsity=0.8)
        write_cell(tmp_path, "seven_pre", [0.70 + gain] * 6, sparsity=0.8)
        found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mrpc")
        assert found.words == told
        assert found.gain == pytest.approx(gain)


def test_claims_with_runs_are_one_family(tmp_path: Path) -> None:
    """Two tests: Holm asks for 2^(1-n) <= 0.05 / 2, so 7 seeds."""
    for method, value in (("snip", 0.6), ("grasp", 0.6), ("seven_pre", 0.8)):
        write_cell(tmp_path, method, [value] * 6, sparsity=0.8)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mrpc")
    assert found.words == "too few seeds to test (6 of 7)"


def test_another_model_can_show_an_order_and_is_named(tmp_path: Path) -> None:
    for method, value in (("snip", 0.6), ("seven_pre", 0.8)):
        write_cell(tmp_path, method, [value] * 6, task="glue/mnli", sparsity=0.8, model="minilm")
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert found.words == "holds"
    assert [d.words for d in found.differences if d.matters] == [
        "model: ours minilm, published bert_base"
    ]


def test_runs_of_two_settings_are_not_paired(tmp_path: Path) -> None:
    write_cell(tmp_path, "snip", [0.6] * 6, task="glue/mnli", sparsity=0.8, epochs=3)
    write_cell(tmp_path, "seven_pre", [0.8] * 6, task="glue/mnli", sparsity=0.8, epochs=10)
    assert claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli").words == NO_RUNS
