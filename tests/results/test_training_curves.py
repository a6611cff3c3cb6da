"""Curves of training, against means taken by hand."""

from __future__ import annotations

import math
from pathlib import Path

from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.training_curves import read_curves

from .synthetic import make_record, write_run


def write_curve(root: Path, text: str, **own: object) -> None:
    folder = write_run(root, make_record(**own))
    (folder / "metrics.csv").write_text(text, encoding="utf-8")


def test_curves_are_means_over_seeds(tmp_path: Path) -> None:
    head = "step,density/a,progress/step,train/loss,validation/accuracy\n"
    own = {"pruner": "snip", "sparsity__target": 0.5}
    write_curve(tmp_path, f"{head}9,0.5,10,2.0,0.5\n19,,20,1.0,0.7\n", **own, seed=0)
    write_curve(tmp_path, f"{head}9,0.5,10,4.0,0.7\n19,,20,nan,\n", **own, seed=1)
    write_curve(tmp_path, "\0 none of ours", **own, seed=2)
    (group,) = split_groups(collect([tmp_path]).records)
    ((curve,),) = read_curves([group])
    assert (curve.method, curve.sparsity, curve.seeds) == ("snip", 0.5, 2)
    assert curve.steps == [10.0, 20.0]
    assert curve.values == {"train/loss": [3.0, 1.0], "validation/accuracy": [0.6, 0.7]}


def test_long_curves_are_thinned_and_end_where_they_end(tmp_path: Path) -> None:
    rows = "".join(f"{step},{1 / step}\n" for step in range(1, 1001))
    write_curve(tmp_path, f"progress/step,train/loss\n{rows}", pruner="snip")
    (group,) = split_groups(collect([tmp_path]).records)
    ((curve,),) = read_curves([group])
    assert len(curve.steps) == 60
    assert curve.steps[0] == 1 and curve.steps[-1] == 1000
    assert math.isclose(curve.values["train/loss"][-1], 1e-3)
