"""What a run is: a hash over all that decides its result, and the folder that follows from it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from seven_bench.data.sources import fingerprint

Config = dict[str, Any]

# Keys that decide where things go and what is shown, not what comes out.
VOLATILE = (
    "output_root", "data_root", "logger", "suite", "progress", "dry_run", "retry_failed", "shard",
)  # fmt: skip

# Keys that came later, with the value that runs before them had: at that value they do not enter
# the hash, so that old runs keep their names. Append only.
LEDGER: dict[str, Any] = {"pruner.masking": "hard", "pruner.rounds": None}


@dataclass(frozen=True)
class Identity:
    """`run_id`: the run's folder below `output_root/runs`; `cell_id`: the same without a seed."""

    run_id: str
    cell_id: str

    def folder(self, output_root: str | os.PathLike[str]) -> Path:
        return Path(output_root) / "runs" / self.run_id


def identify(config: Config) -> Identity:
    """The identity of a checked, resolved config."""
    decisive = decisive_part(config)
    seed = decisive["seed"]
    parts = (
        config["task"]["name"],
        config["model"]["name"],
        config["pruner"]["name"],
        f"s{decisive['sparsity']:g}",
    )
    cell = "/".join(str(part).replace("/", "-") for part in parts)
    run_hash = _hash(decisive)
    cell_hash = _hash({**decisive, "seed": None, "start": _without_seed(config)})
    return Identity(f"{cell}/seed{seed}-{run_hash}", f"{cell}/{cell_hash}")


def decisive_part(config: Config) -> Config:
    """The part of a config that decides the result, with data and start by content."""
    part = {key: copy.deepcopy(value) for key, value in config.items() if key not in VOLATILE}
    part["task"].pop("source", None)
    part["task"].pop("recipe", None)  # what it gives is in trainer and start
    part["task"]["data_fingerprint"] = _data(config)
    start = config["start"]
    part["start"] = {"kind": start["kind"]}
    if start["kind"] == "dense":
        part["start"]["run"] = identify(dense_start(config)).run_id
    if config["pruner"]["timing"] == "none":
        part.update(sparsity=0.0, pattern=None, distribution=None, control=None)
    part["trainer"]["threads"] = threads(config)
    part["trainer"].pop("checkpoint_every", None)
    for key, old in LEDGER.items():
        _drop(part, key.split("."), old)
    return part


def dense_start(config: Config) -> Config:
    """The config of the dense run that `start=dense` begins from: an ordinary run of its own."""
    start = config["start"]
    return {
        **config,
        "pruner": dense_pruner(),
        "sparsity": 0.0,
        "prunable": [],
        "start": {"kind": start["from"]},
        "trainer": start["train"],
    }


@cache
def _dense_yaml() -> str:
    return (conf_dir() / "pruner" / "dense.yaml").read_text()


def dense_pruner() -> Config:
    """The `pruner` node of an unpruned run."""
    from omegaconf import OmegaConf

    node: Any = OmegaConf.to_container(OmegaConf.create(_dense_yaml()))
    return dict(node)


def conf_dir() -> Path:
    """The folder of configs: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def threads(config: Config) -> int:
    """CPU threads of a run: part of its identity, for sums differ with it."""
    return int(config["trainer"]["threads"] or os.cpu_count() or 1)


def _data(config: Config) -> str:
    return fingerprint(config["task"]["source"], config["data_root"], config["task"]["name"])


def _without_seed(config: Config) -> Config:
    start = config["start"]
    if start["kind"] != "dense":
        return {"kind": start["kind"]}
    return {"kind": "dense", "cell": identify(dense_start(config)).cell_id}


def _hash(part: Config) -> str:
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _drop(part: Config, path: list[str], old: Any) -> None:
    for key in path[:-1]:
        part = part.get(key, {})
    if part.get(path[-1], object()) == old:
        part.pop(path[-1])
