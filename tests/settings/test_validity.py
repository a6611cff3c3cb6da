"""What goes with what: as declared, as the engine has it, and enforced before any work."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest

from seven_bench.commands.list import choices, matrix
from seven_bench.errors import ConfigError
from seven_bench.pruning import DISTRIBUTIONS, PATTERNS
from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.pruner import MASKING
from seven_bench.pruning.suppliers import SUPPLIERS
from seven_bench.settings.building import build_score
from seven_bench.settings.identity import dense_start, identify
from seven_bench.settings.model import Pruner
from seven_bench.settings.node import read
from seven_bench.settings.validity import MASKINGS, MEASURED, TOP5, own_distribution

METHODS = [choice for choice in choices("pruner") if choice.node["timing"] != "none"]


@pytest.mark.parametrize("choice", METHODS, ids=lambda choice: choice.name)
def test_a_methods_file_says_what_its_class_says(choice):
    pruner = read(Pruner, choice.node)
    assert build_score(pruner).needs == {*pruner.needs}
    others = ("activations",) if "activations" not in pruner.needs else ("weights",)
    with pytest.raises(ConfigError, match=r"pruner\.needs: .* one of them is wrong"):
        build_score(pruner.model_copy(update={"needs": others}))
    other = "network" if pruner.compared == "row" else "row"
    with pytest.raises(ConfigError, match=r"pruner\.compared: .* one of them is wrong"):
        build_score(pruner.model_copy(update={"compared": other}))


def test_the_tables_agree_with_the_engine():
    assert {*NEEDS} == {"weights", *SUPPLIERS}, "calibration supplies something else"
    once = {name for name, need in NEEDS.items() if need.one_shot}
    assert once == {"hessian_gradient", "activations", "grams"}, "the batches are gone over twice"
    assert set().union(*MASKINGS.values()) == MASKING.keys()
    assert set().union(*(form.distributions for form in PATTERNS.values())) == DISTRIBUTIONS.keys()
    assert set(MASKINGS) == {"before", "during", "rounds", "after"}


def test_the_matrix_has_every_method_at_its_own_timing():
    rows = matrix(METHODS)
    assert {row.method for row in rows if row.own} == {choice.name for choice in METHODS}
    by_hand = {
        ("wanda", "before"): {"unstructured": ("per_row",), "nm_2_4": ("uniform",)},
        ("seven_dyn_released", "during"): {"unstructured": ("global",), "row": ()},
        ("random_er", "before"): {"block_4x4": ("er",), "nm_4_8": ()},
        ("rigl", "during"): {"row": ("er", "global", "uniform", "lamp")},
    }
    for (method, timing), patterns in by_hand.items():
        (row,) = (row for row in rows if (row.method, row.timing) == (method, timing))
        for pattern, distributions in patterns.items():
            assert row.distributions[pattern] == distributions, f"{method} x {pattern}"
    timings = {m: {r.timing for r in rows if r.method == m} for m in ("grasp", "movement", "snip")}
    assert timings["grasp"] == {"before", "rounds", "after"}, "H g in the middle of training"
    assert timings["movement"] == {"during"}, "nothing moves at rest"
    assert timings["snip"] == {"before", "during", "rounds", "after"}
    assert not any("nm_2_4" in row.distributions for row in rows if row.timing == "rounds")


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ("pattern=x", "pattern=x: allowed are unstructured, nm_2_4"),
        ("distribution=x", "distribution=x: allowed are global, uniform"),
        ("pattern=nm_2_4", "sparsity=0.9: pattern=nm_2_4 fixes it at 0.5"),
        ("pattern=nm_2_4 sparsity=0.5 distribution=er", "distribution can be uniform"),
        ("pattern=row distribution=per_row", "distribution can be global, uniform, er, lamp"),
        ("pruner=wanda distribution=global", "distribution can be per_row"),
        ("pruner=wanda pattern=row", "pattern can be unstructured, nm_2_4, nm_4_8"),
        ("pruner=random_er distribution=uniform", "distribution can be er"),
        ("pruner=lamp pattern=nm_2_4 sparsity=0.5", "be unstructured, block_1x4, block_4x4, row"),
        ("pattern=head distribution=er", "pattern=head; distribution can be global, uniform"),
        ("pattern=neuron prunable.include=[pooler]", "prunable.include: not with pattern=neuron"),
        ("pruner=lth pattern=nm_2_4 sparsity=0.5", "be unstructured, block_1x4, block_4x4, row"),
        ("pruner=seven_dyn_released pattern=row", "pattern can be unstructured"),
        ("pruner=grasp pruner.timing=during", "needs hessian_gradient, which timing=during does"),
        ("pruner=movement pruner.timing=before", "masking can be hard, regrow"),
        ("pruner=snip pruner.calibration=null", "wants the keys examples and batch_size"),
        ("pruner=snip +pruner.calibration.x=1", "pruner.calibration.x: no such key; known are"),
        ("pruner=grasp pruner.calibration.temperature=0", "temperature=0: allowed is a number"),
        ("pruner=snip +pruner.x=1", "pruner.x: no such key"),
        (
            "pruner=grasp pruner.schedule._target_=seven_bench.pruning.Exponential",
            "pruner.schedule=exponential: a score that needs hessian_gradient is taken once",
        ),
        ("pruner=seven_dyn control=shuffle", "prunes during; controls are for before"),
        ("pruner=random control=corrupt_labels", "pruner=random looks at no labels"),
        ("pruner=wanda control=quota_swap", "distribution=per_row"),
        ("pruner=snip pattern=row control=quota_swap_reverse", "allowed is unstructured"),
    ],
)
def test_what_does_not_go_together_is_one_line_before_any_work(make_config, overrides, text):
    pruner = "" if "pruner=" in overrides else "pruner=snip "
    with pytest.raises(ConfigError, match=text) as caught:
        make_config(*(pruner + overrides).split(), "logger=none")
    assert "\n" not in str(caught.value)


def test_what_is_left_open_is_the_methods_own(make_config):
    def settled(*overrides):
        config = make_config(*overrides, "logger=none")
        return config.pattern, config.distribution

    assert settled("pruner=snip") == ("unstructured", "global")
    assert settled("pruner=wanda") == ("unstructured", "per_row")
    assert settled("pruner=lamp") == ("unstructured", "lamp")
    assert settled("pruner=rigl") == ("unstructured", "er")
    assert settled("pruner=wanda", "pattern=nm_2_4", "sparsity=0.5") == ("nm_2_4", "uniform")
    assert settled("pruner=snip", "pattern=nm_2_4", "sparsity=0") == ("nm_2_4", "uniform")


def test_dense_takes_no_notice_of_pattern_distribution_and_control(make_config):
    plain = make_config("pruner=dense", "logger=none")
    other = make_config(
        "pruner=dense", "pattern=nm_2_4", "distribution=er", "control=shuffle", "logger=none"
    )
    assert identify(plain) == identify(other), "the dense run has two names"
    start = (
        make_config("pruner=snip", "logger=none"),
        make_config("pruner=snip", "pattern=row", "control=shuffle", "logger=none"),
    )
    one, two = (identify(dense_start(config)) for config in start)
    assert one == two, "a control trains a dense start of its own"


def test_a_method_that_says_only_what_it_allows_has_the_first_of_that():
    assert own_distribution(read(Pruner, {"name": "x", "timing": "before"})) == "global"
    node = {"name": "x", "timing": "before", "distributions": ["er", "lamp"]}
    assert own_distribution(read(Pruner, node)) == "er"


def test_checks_and_list_load_no_torch():
    code = (
        "import sys, yaml, seven_bench.commands.list as l; l.matrix(l.choices('pruner')); "
        "print([m for m in ('torch', 'pytorch_lightning', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_temperature_is_refused_where_no_loss_has_a_cross_entropy(make_config, tmp_path):
    given = ("task=glue/stsb", "model=tiny_bert", "start=init", f"data_root={tmp_path}")
    for split in ("train", "validation"):
        path = tmp_path / "glue" / "stsb" / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match="temperature=200: the loss of task=glue/stsb has no"):
        make_config("pruner=grasp", *given)
    make_config("pruner=grasp", "pruner.calibration.temperature=null", *given)


@pytest.mark.parametrize("path", MEASURED)
def test_what_a_module_measures_is_what_the_table_says(path):
    """The table needs no torch; the module's own metrics, of nothing yet, have the names."""
    from torch import nn

    from seven_bench.training.finetune import Recipe

    given = {"longest_answer": 3} if path.endswith("SpanModule") else {"classes": 101}
    recipe = Recipe(max_epochs=1, lr=0.1, batch_size=2)
    module = getattr(importlib.import_module(path.rpartition(".")[0]), path.rpartition(".")[2])
    found = module(nn.Linear(1, 1), recipe, **given).metrics["test"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing was measured
        names = {name.removeprefix("test/") for name in found.compute()}
    assert names == {*MEASURED[path], *(TOP5 if "classes" in given else ())}
