"""Synthetic records held against published rows: each kind of verdict, each kind of claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from seven_bench.results.cells import split_cells
from seven_bench.results.claims import NOT_ALIKE, check_claims
from seven_bench.results.collect import collect
from seven_bench.results.differences import OFFICIAL
from seven_bench.results.published import Row, read_paper
from seven_bench.results.statistics import summarise
from seven_bench.results.verdicts import (
    FEW_SEEDS,
    MATCHED,
    NO_RUNS,
    NOT_COMPARABLE,
    NOT_MATCHED,
    NOT_OURS,
    Checked,
    check_rows,
    tolerate,
)
from seven_bench.settings.conf import conf_dir

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
    recipe = {
        "trainer.max_epochs": epochs,
        "trainer.lr": 2e-5,
        "trainer.batch_size": 32,
        "finetune.distill": distill,
        **changes.get("recipe", {}),
    }
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
            recipe=recipe if config else None,
            cell_id=changes.get("cell_id", ""),
            sparsity__target=sparsity,
            sparsity__encoder=sparsity,
            metric__value=value,
            metric__split=changes.get("split", "dev"),
            metrics__test_examples=round(scored * test),
            cost__example_equivalents__training=round(3 * epochs * 0.9 * subset * train),
        )
        if "masks" in changes:
            told = {"from": changes["masks"], "kind": "run", "hash": "0", "example_equivalents": 1}
            record |= {"masks": told, "run_id": f"{changes['masks']}/{seed}"}
        if "trained" in changes:
            record["metrics"]["train_examples"] = changes["trained"]
        folder = write_run(root, record)
        settings = {
            "trainer": {"max_epochs": epochs, "max_steps": None, "lr": 2e-5, "batch_size": 32},
            "finetune": {"name": "full", "distill": distill},
        }
        if config:
            (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def around(value: float) -> list[float]:
    """Five seeds with this mean and a standard deviation of 0.01 * sqrt(0.1), 0.0032."""
    return [value + shift for shift in (-0.004, -0.002, 0.0, 0.002, 0.004)]


#: Student's t at 0.975 with 4 degrees of freedom: five seeds.
T4 = 2.776445

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
    write_cell(tmp_path, "dense", around(0.865))
    write_cell(tmp_path, "snip", around(0.76), sparsity=0.5)  # 0.7526, read off a figure
    found = check("snip", 0.5)
    assert found.verdict == MATCHED
    assert (found.ours.mean, found.ours.n) == (pytest.approx(0.76), 5)
    assert found.gap == pytest.approx(0.0074)
    # Theirs is one number whose spread is known of the task, 1.21 points; the figure is read to
    # 0.05 points and printed to 0.01.
    error = math.sqrt(0.0121**2 + 1e-5 / 5)
    assert found.tolerance == pytest.approx(T4 * error + 0.0005 + 0.00005, rel=1e-6)
    assert words(found, True) == ""
    assert words(found, False) == (
        "not stated in the source: epochs, learning rate, batch size, which epoch is measured "
        "(ours: best)"
    )


def test_beyond_it_is_not_matched_either_way(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", around(0.865))
    write_cell(tmp_path, "snip", around(0.70), sparsity=0.5)
    write_cell(tmp_path, "grasp", around(0.90), sparsity=0.5)
    assert check("snip", 0.5).verdict == NOT_MATCHED
    assert check("grasp", 0.5).verdict == NOT_MATCHED
    assert check("grasp", 0.5).gap > 0


def test_a_reconstruction_refutes_nothing(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", around(0.865))
    write_cell(tmp_path, "seven_pre", around(0.70), sparsity=0.5)
    assert check("seven_pre", 0.5).verdict == NOT_OURS == "not matched by our reconstruction"


def test_one_seed_gives_no_verdict(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "dense", [0.86])
    write_cell(tmp_path, "snip", [0.7566], sparsity=0.5)
    write_cell(tmp_path, "grasp", [0.60], sparsity=0.5)
    found = check("snip", 0.5)
    assert found.verdict == "one seed: +0.4 points" and math.isnan(found.tolerance)
    assert check("grasp", 0.5).verdict == "one seed: -19.3 points"
    assert "our dense baseline has one seed: it cannot be checked" in words(found, False)


def test_a_tolerance_that_lets_everything_pass_tells_nothing(tmp_path: Path, check: Check) -> None:
    """Two seeds: Student's t is 12.7, and 17 points would be matched. A wider miss is still one."""
    write_cell(tmp_path, "snip", [0.75, 0.76], sparsity=0.5)
    write_cell(tmp_path, "grasp", [0.50, 0.51], sparsity=0.5)
    assert check("snip", 0.5).verdict == FEW_SEEDS == "too few seeds to tell"
    assert check("snip", 0.5).tolerance > 0.15
    assert check("grasp", 0.5).verdict == NOT_MATCHED


def test_tolerances_by_hand() -> None:
    ours = summarise(around(0.8))
    plain = Row(
        source="S", locator="L", kind="table", task="none", model="m", method="snip",
        metric="accuracy", value=0.8, error=0.0005,
    )  # fmt: skip
    # One number of unknown spread: ours stands for theirs, and sqrt(1/5 + 1) of it is the error.
    assert tolerate(plain, ours) == pytest.approx(T4 * ours.std * math.sqrt(1.2) + 0.0005)
    # A mean of 20: the error of theirs nearly goes.
    many = replace(plain, seeds=20)
    assert tolerate(many, ours) == pytest.approx(T4 * ours.std * math.sqrt(0.25) + 0.0005)
    # Printed 0.9 ± 0.01 of 5: pooled, with 8 degrees of freedom.
    printed = replace(plain, std=0.01, seeds=5)
    pooled = math.sqrt((1e-4 + 1e-5) / 2)
    assert tolerate(printed, ours) == pytest.approx(2.306004 * pooled * math.sqrt(0.4) + 0.0005)
    # Without their number of seeds: the error of one, the freedom of two.
    pooled = math.sqrt((1e-4 + 4 * 1e-5) / 5)
    unsure = replace(plain, std=0.01)
    assert tolerate(unsure, ours) == pytest.approx(2.570582 * pooled * math.sqrt(1.2) + 0.0005)
    # The middle of a range: half of it, and our own error.
    ranged = replace(plain, tolerance=0.003)
    assert tolerate(ranged, ours) == pytest.approx(0.003 + T4 * ours.std / math.sqrt(5))


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
    write_cell(tmp_path, "snip", around(0.7526), sparsity=0.5, **changes)  # the value itself
    found = check("snip", 0.5)
    assert found.verdict == NOT_COMPARABLE
    assert told in words(found, True)


def test_epochs_matter_beyond_a_factor_of_two(tmp_path: Path) -> None:
    paper = read_paper(PAPERS / "platon.yaml")
    value = 0.843
    for epochs, verdict in ((8, MATCHED), (4, NOT_COMPARABLE), (21, NOT_COMPARABLE)):
        root = tmp_path / str(epochs)
        write_cell(root, "platon", around(value), sparsity=0.9, epochs=epochs)
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
    write_cell(tmp_path, "dense", around(0.70))
    write_cell(tmp_path, "snip", around(0.7526), sparsity=0.5)
    found = check("snip", 0.5)
    assert found.verdict == NOT_COMPARABLE
    # 85.20 to 87.70 are published, and five seeds of ours leave 0.39 points.
    assert words(found, True) == (
        "our dense baseline has accuracy 70.00, published ones allow 84.81 to 88.09"
    )


def test_a_dense_baseline_is_one_of_the_same_recipe(tmp_path: Path, check: Check) -> None:
    """Dense runs of one epoch say nothing of methods that were trained for ten, either way."""
    write_cell(tmp_path, "dense", around(0.70), epochs=1)
    write_cell(tmp_path, "snip", around(0.7526), sparsity=0.5)
    found = check("snip", 0.5)
    assert found.verdict == MATCHED
    assert "our dense baseline of this recipe is not there: it cannot be checked" in words(
        found, False
    )


def test_a_paper_that_prints_its_own_dense_spread_is_its_own_gate(tmp_path: Path) -> None:
    """Tickets in BERT have 85.2 ± 0.1 on MRPC, QQP 90.2 ± 0.5: below the range of other papers."""
    paper = read_paper(PAPERS / "bert_tickets.yaml")
    for method, value, sparsity in (("dense", 0.902, 0.0), ("lth", 0.90, 0.9)):
        changes = {"epochs": 3, "timing": "rounds", "trained": OFFICIAL["glue/qqp"][0]}
        write_cell(tmp_path, method, around(value), task="glue/qqp", sparsity=sparsity, **changes)
    cells = split_cells(collect([tmp_path]).records)
    found = {c.row.method: c for c in check_rows(paper, cells, DENSE) if c.verdict != NO_RUNS}
    assert found["lth"].verdict == found["dense"].verdict == MATCHED
    alone = replace(paper, rows=tuple(row for row in paper.rows if row.method == "lth"))
    (only,) = (c for c in check_rows(alone, cells, DENSE) if c.verdict != NO_RUNS)
    assert only.verdict == NOT_COMPARABLE


def test_a_bound_is_met_on_its_side(tmp_path: Path, check: Check) -> None:
    for value, verdict in ((0.30, MATCHED), (0.709, MATCHED), (0.73, NOT_MATCHED)):
        write_cell(tmp_path, "force", around(value), task="glue/mnli", sparsity=0.9)  # "< 70"
        assert check("force", 0.9, "glue/mnli").verdict == verdict


def test_sparsity_is_that_of_the_papers_denominator(tmp_path: Path, check: Check) -> None:
    """With the pooler pruned too, 0.5 of the prunable may be another sparsity of the encoder."""
    record = make_record(
        task="glue/mrpc", model="bert_base", sparsity__target=0.5, sparsity__encoder=0.52
    )
    write_run(tmp_path, record)
    assert check("snip", 0.5).verdict == NO_RUNS


def test_the_nearest_setting_is_taken_whatever_its_value(tmp_path: Path, check: Check) -> None:
    write_cell(tmp_path, "snip", around(0.7526), sparsity=0.5, model="minilm")
    write_cell(tmp_path, "snip", around(0.60), sparsity=0.5)
    found = check("snip", 0.5)
    assert (found.verdict, found.others) == (NOT_MATCHED, 1)


def test_controls_are_not_the_method_but_a_row_may_be_of_one(tmp_path: Path) -> None:
    write_cell(tmp_path, "snip", around(0.7526), sparsity=0.5, control="shuffle")
    cells = split_cells(collect([tmp_path]).records)
    (row,) = (r for r in SEVEN.rows if (r.method, r.task, r.sparsity) == ("snip", "glue/mrpc", 0.5))
    paper = replace(SEVEN, rows=(row, replace(row, control="shuffle")))
    assert [found.verdict for found in check_rows(paper, cells)] == [NO_RUNS, MATCHED]


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


def test_runs_of_two_recipes_are_not_paired(tmp_path: Path) -> None:
    write_cell(tmp_path, "snip", [0.6] * 6, task="glue/mnli", sparsity=0.8, epochs=1)
    write_cell(tmp_path, "seven_pre", [0.8] * 6, task="glue/mnli", sparsity=0.8, epochs=10)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert found.words == NOT_ALIKE and math.isnan(found.p)
    assert [d.words for d in found.differences if d.matters] == [
        "seven_pre against snip: trainer.max_epochs 10 against 1"
    ]


def test_a_claim_does_not_stand_on_a_rival_of_500_examples(tmp_path: Path) -> None:
    """SNIP on 500 training examples loses every seed; that is no property of SNIP."""
    few = {"recipe": {"task.data.train_examples": 500}, "trained": 500}
    write_cell(tmp_path, "snip", [0.6] * 10, task="glue/mnli", sparsity=0.8, **few)
    write_cell(tmp_path, "seven_pre", [0.8] * 10, task="glue/mnli", sparsity=0.8)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert found.words == NOT_ALIKE
    told = [d.words for d in found.differences if d.matters]
    assert told == [
        "seven_pre against snip: task.data.train_examples none against 500",
        "snip: trained on 500 of 392,702 examples",
    ]
    # With a SNIP of the whole set beside it, that one is taken, though its margin is smaller.
    write_cell(tmp_path, "snip", [0.79] * 10, task="glue/mnli", sparsity=0.8)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert (found.words, found.gain) == ("holds", pytest.approx(0.01))


def test_what_differs_is_listed_for_both_sides(tmp_path: Path) -> None:
    """The lower side alone was trained on a part: the claim says so."""
    for method, value, subset in (("snip", 0.6, 0.5), ("seven_pre", 0.8, 1.0)):
        changes = {"model": "minilm", "subset": subset, "task": "glue/mnli"}
        write_cell(tmp_path, method, [value] * 6, sparsity=0.8, **changes)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert [d.words for d in found.differences if d.matters] == [
        "snip: trained on 176,716 of 392,702 examples",
        "model: ours minilm, published bert_base",
    ]


def test_runs_without_a_recipe_prove_no_claim(tmp_path: Path) -> None:
    for method, value in (("snip", 0.6), ("seven_pre", 0.8)):
        write_cell(tmp_path, method, [value] * 6, task="glue/mnli", sparsity=0.8, config=False)
    found = claim(tmp_path, "seven_pre", "snip", 0.8, "glue/mnli")
    assert found.words == NOT_ALIKE
    assert "a recipe that is not recorded" in found.differences[0].words


def test_another_form_of_a_method_is_held_against_the_same_number(tmp_path: Path) -> None:
    """The figure is one; the suite has the released noise term and that of the paper's words."""
    write_cell(tmp_path, "seven_pre_signed", around(0.8622), sparsity=0.5)
    write_cell(tmp_path, "snip", around(0.70), sparsity=0.5)
    cells = split_cells(collect([tmp_path]).records)
    checked = [
        item
        for item in check_rows(SEVEN, cells)
        if (item.row.task, item.row.sparsity) == ("glue/mrpc", 0.5) and "seven" in item.row.method
    ]
    assert [item.row.told for item in checked] == ["seven_pre", "seven_pre_signed (for seven_pre)"]
    assert [item.ours.n for item in checked] == [0, 5]
    assert checked[0].row.value == checked[1].row.value
    assert "seven_pre_signed" in SEVEN.reconstructed
    claims = [
        item
        for item in check_claims(SEVEN, cells)
        if item.pairs and item.claim.above.task == "glue/mrpc"
    ]
    assert {item.claim.above.method for item in claims} == {"seven_pre_signed"}


def test_what_is_published_as_a_difference_to_dense_is_paired_with_ours(tmp_path: Path) -> None:
    """Figure 2 of the tickets: magnitude's mask at 0.7 costs MRPC 12.68 points."""
    paper = read_paper(PAPERS / "bert_tickets.yaml")
    recipe = {"trainer.max_epochs": 3}
    for name, value, other in (("dense", 0.85, {}), ("magnitude", 0.7232, {"sparsity": 0.7}),
                               ("magnitude", 0.5, {"sparsity": 0.7, "epochs": 1})):  # fmt: skip
        epochs = {"epochs": 3, "recipe": {**recipe, "trainer.max_epochs": other.get("epochs", 3)}}
        write_cell(tmp_path, name, around(value), **{**epochs, **other}, distribution="global")
    cells = split_cells(collect([tmp_path]).records)
    (row,) = [row for row in paper.rows if row.task == "glue/mrpc" and row.method == "magnitude"]
    assert (row.metric, row.value) == ("accuracy_against_dense", pytest.approx(-0.1268))
    (checked,) = check_rows(replace(paper, rows=(row,)), cells)
    assert checked.ours.n == 5 and checked.others == 0, "one has no dense run of its recipe"
    assert checked.ours.mean == pytest.approx(-0.1268) and checked.ours.std < 1e-9
    assert checked.gap == pytest.approx(0)


def test_masks_of_another_task_stand_beside_their_own_published_row(tmp_path: Path) -> None:
    """MRPC with the masks of RTE: 13.66 points below the full network, with MNLI's 13.09."""
    write_cell(tmp_path, "dense", around(0.852), epochs=3)
    for source, value in (("lth of glue/rte", 0.72), ("lth of glue/mnli", 0.71)):
        given = {"masks": source, "cell_id": source, "sparsity": 0.7, "epochs": 3}
        write_cell(tmp_path, "given_mask", around(value), **given)
    paper = read_paper(PAPERS / "bert_tickets.yaml")
    cells = split_cells(collect([tmp_path]).records)
    rows = [item for item in check_rows(paper, cells, DENSE) if item.row.task == "glue/mrpc"]
    found = {item.row.masks: item for item in rows if item.row.method == "given_mask"}
    assert found["lth of glue/rte"].row.value == pytest.approx(-0.1366)
    assert found["lth of glue/rte"].gap == pytest.approx(0.72 - 0.852 + 0.1366)
    assert found["lth of glue/mnli"].gap == pytest.approx(0.71 - 0.852 + 0.1309)
    assert found["lth of glue/rte"].row.told == "given_mask (lth of glue/rte)"
    assert {item.verdict for name, item in found.items() if name and "sst2" in name} == {NO_RUNS}
