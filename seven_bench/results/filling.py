"""The command that makes the runs of a published row, where the suite can make them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seven_bench.pruning.control_names import CONTROLS
from seven_bench.pruning.patterns import PATTERNS
from seven_bench.results.groups import DENSE
from seven_bench.results.published import Row

#: How many seeds a command asks for where the source does not say.
SEEDS = 5


@dataclass(frozen=True)
class Filling:
    """`command` makes the runs of a row; where it is empty, `reason` says what the suite lacks."""

    command: str = ""
    reason: str = ""


class Suite:
    """What the suite can run, read from its folder of configs."""

    def __init__(self, conf: str | Path) -> None:
        self.conf = Path(conf)
        self._cells: dict[str, list[dict[str, Any]]] = {}

    def fill(self, row: Row) -> Filling:
        """How the runs of a row are made: by the experiment that lists it, or else by its keys."""
        if row.hardware is not None:
            return Filling(reason="times and memory belong to their machine")
        kinds = {"task": row.task, "model": row.model, "pruner": row.method}
        kinds |= {"start": row.start or "pretrained", "finetune": row.finetune}
        for group, name in {**kinds, "control": row.control}.items():
            if not (self.conf / group / f"{name}.yaml").is_file():
                return Filling(reason=f"the suite has no {group} {name}")
        if row.method != DENSE:
            if row.pattern not in PATTERNS:
                return Filling(reason=f"the suite has no pattern {row.pattern}")
            if row.sparsity is None:
                return Filling(reason="the source states no sparsity")
        if row.method != DENSE and self._timing(row.method) not in CONTROLS[row.control]:
            return Filling(reason="the suite's controls are for methods before training")
        if row.epochs == 0 and row.method != DENSE and self._timing(row.method) == "during":
            return Filling(reason="a method at work during training needs an epoch of it")
        if row.masks is not None:
            method, _, task = row.masks.partition(" of ")
            for group, name in {"pruner": method, "task": task}.items():
                if not (self.conf / group / f"{name}.yaml").is_file():
                    return Filling(reason=f"the suite has no {group} {name} to find masks with")
        first = f"python -m seven_bench experiment={row.masks_experiment} && "
        first = first if row.masks_experiment else ""
        if row.experiment and any(_lists(cell, row) for cell in self._list(row.experiment)):
            return Filling(f"{first}python -m seven_bench experiment={row.experiment}")
        return Filling(f"{first}python -m seven_bench -m {' '.join(_say_keys(row))}")

    def _timing(self, method: str) -> str:
        path = self.conf / "pruner" / f"{method}.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(content.get("pruner", content).get("timing"))

    def _list(self, experiment: str) -> list[dict[str, Any]]:
        """The cells of an experiment, each with what all of them share; none where unreadable."""
        if experiment not in self._cells:
            path = self.conf / "experiment" / f"{experiment}.yaml"
            try:
                sweeper = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["sweeper"]
                shared = sweeper.get("params") or {}
                self._cells[experiment] = [{**shared, **cell} for cell in sweeper["cells"]]
            except (OSError, yaml.YAMLError, KeyError, TypeError):
                self._cells[experiment] = []
        return self._cells[experiment]


def _lists(cell: Mapping[str, Any], row: Row) -> bool:
    """Whether a cell of an experiment makes a row: what either leaves open does not part them."""
    pruned = row.method != DENSE
    wanted = {
        "task": row.task,
        "model": row.model,
        "pruner": row.method,
        "sparsity": row.sparsity if pruned else None,
        "distribution": row.distribution if pruned else None,
        "trainer.max_epochs": row.epochs,
    }
    if not _holds(cell.get("finetune.distill", False), bool(row.kd)):
        return False
    if row.pattern != (cell.get("pattern") or "unstructured") and pruned:
        return False
    if not _holds(cell.get("control") or "none", row.control):
        return False
    given = cell.get("pruner.masks")
    paths = given if isinstance(given, list) else [given]
    if row.masks is not None and not any(_masks_folder(row) in str(path) for path in paths):
        return False
    return all(
        value is None or key not in cell or _holds(cell[key], value)
        for key, value in wanted.items()
    )


def _masks_folder(row: Row) -> str:
    """Where below the folder of outputs a row's masks are found, of any seed."""
    method, _, task = (row.masks or "").partition(" of ")
    return f"/runs/{task.replace('/', '-')}/{row.model}/{method}/s{row.sparsity:g}/seed"


def _holds(listed: Any, value: Any) -> bool:
    several = listed if isinstance(listed, list) else [listed]
    if isinstance(value, float):
        return any(isinstance(v, int | float) and math.isclose(v, value) for v in several)
    return value in several


def _say_keys(row: Row) -> Iterator[str]:
    """A row's setting as keys that are typed; what its source does not state is left as it is."""
    yield f"task={row.task} model={row.model} start={row.start or 'pretrained'}"
    yield f"pruner={row.method}"
    if row.masks is not None:
        yield f"'pruner.masks=outputs{_masks_folder(row)}${{seed}}-*'"
    if row.method != DENSE:
        yield f"sparsity={row.sparsity:g}"
        if row.pattern != "unstructured":
            yield f"pattern={row.pattern}"
        if row.distribution is not None:
            yield f"distribution={row.distribution}"
        if row.linears == 73:  # BERT's pooler beside the 72 layers of its encoder
            yield "prunable.include=[pooler]"
    if row.control != "none":
        yield f"control={row.control}"
    if row.finetune != "full":
        yield f"finetune={row.finetune}"
    if row.kd:
        yield "finetune.distill=true"
    settings = {"max_epochs": row.epochs, "lr": row.lr, "batch_size": row.batch_size}
    for key, value in settings.items():
        if value is not None:
            yield f"trainer.{key}={value:g}"
    yield f"seed={','.join(map(str, range(row.seeds or SEEDS)))}"
