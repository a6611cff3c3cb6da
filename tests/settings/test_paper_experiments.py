"""The experiments of published tables: every cell composes."""

from itertools import product
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from seven_bench.settings.conf import conf_dir
from seven_bench.settings.model import Prunable
from seven_bench.settings.node import read

CONF = conf_dir()
FILES = sorted((CONF / "experiment" / "paper").glob("*.yaml"))


def choices(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def cells(path: Path) -> list[list[str]]:
    """One run of each cell, pruner and task: the first of all other values."""
    sweeper = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["sweeper"]
    runs = []
    for cell in sweeper["cells"]:
        given = {**sweeper["params"], **cell}
        for pruner, task in product(choices(given["pruner"]), choices(given["task"])):
            run = {key: choices(value)[0] for key, value in given.items()}
            run |= {"pruner": pruner, "task": task}
            runs.append([f"{key}={text(value)}" for key, value in run.items()])
    return runs


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_cell_composes(path):
    """Composed and resolved, not checked: the weights and the data need not be on this machine."""
    missing = []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in cells(path):
            given = dict(override.split("=", 1) for override in overrides)
            if not (CONF / "pruner" / f"{given['pruner']}.yaml").is_file():
                missing.append(given["pruner"])
                continue
            composed = compose("config", [f"experiment=paper/{path.stem}", *overrides])
            config = OmegaConf.to_container(composed, resolve=True)
            for group in ("task", "model", "pruner"):
                assert config[group]["name"] == given[group]
            assert config["start"]["kind"] == given["start"]
            assert config["suite"] == f"paper/{path.stem}"
            read(Prunable, config["prunable"], "prunable.")
    if missing:
        pytest.skip(f"without a pruner here: {', '.join(sorted(set(missing)))}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_method_has_a_dense_row_of_its_own_recipe(path):
    """By what is written: a default that one cell writes out and another leaves differs here."""
    sweeper = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["sweeper"]
    dense, others = set(), set()
    for cell in sweeper["cells"]:
        given = {"finetune.distill": False, **sweeper["params"], **cell}
        decisive = ("pruner", "task", "start", "model", "trainer.", "finetune", "start.")
        keys = [key for key in given if key.startswith(decisive) and "pruner." not in key]
        for values in product(*(choices(given[key]) for key in keys)):
            run = dict(zip(keys, map(text, values), strict=True))
            method = run.pop("pruner")
            found = dense if method == "dense" else others
            found.add(frozenset(run.items()))
    assert dense and others <= dense
