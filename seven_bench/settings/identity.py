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

from seven_bench.settings.sources import fingerprint
from seven_bench.settings.weights import TOKENIZER, tokenizer_source
from seven_bench.settings.weights import fingerprint as fingerprint_of_weights

Config = dict[str, Any]

# Keys that decide where things go and what is shown, not what comes out.
VOLATILE = (
    "output_root", "data_root", "logger", "suite", "progress", "dry_run", "retry_failed", "shard",
)  # fmt: skip

# Keys that came later, with the value that runs before them had: at that value they do not enter
# the hash, so that old runs keep their names. Append only.
LEDGER: dict[str, Any] = {"pruner.begin": "dense", "pruner.takes_step": False}
# Keys that decide nothing by themselves: they say what goes together, or where a start comes from,
# which enters by its content.
DESCRIPTIVE = {
    "task": ("source", "recipe", "kind", "train_examples", "max_length", "stride"),
    "model": ("kind", "pretrained", "start", "tokenizer", "vocabulary", "image"),
}


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
    without_seed = {
        "seed": None, "start": _start(config, "cell_id"), "finetune": _finetune(config, "cell_id")
    }  # fmt: skip
    cell_hash = _hash({**decisive, **without_seed})
    return Identity(f"{cell}/seed{seed}-{run_hash}", f"{cell}/{cell_hash}")


def decisive_part(config: Config) -> Config:
    """The part of a config that decides the result, with data and start by content."""
    part = {key: copy.deepcopy(value) for key, value in config.items() if key not in VOLATILE}
    for group, keys in DESCRIPTIVE.items():
        for key in keys:
            part[group].pop(key, None)
    part["task"]["data"].pop("workers", None)
    part["task"]["data_fingerprint"] = _data(config)
    if "tokenizer" in config["model"]:
        part["model"]["tokenizer"] = _tokenizer(config)
    part["start"], part["finetune"] = _start(config, "run_id"), _finetune(config, "run_id")
    if config["pruner"]["timing"] == "none":
        part.update(sparsity=0.0, pattern=None, distribution=None, control=None)
    part["trainer"]["threads"] = threads(config)
    part["trainer"].pop("checkpoint_every", None)
    if not part["finetune"].get("distill"):
        for key in ("distill", "distill_weight", "temperature"):
            part["finetune"].pop(key, None)
    for key, old in LEDGER.items():
        _drop(part, key.split("."), old)
    return part


def dense_start(config: Config) -> Config:
    """The config of the dense run that `start=dense` begins from, and that teaches where
    `finetune.distill=true`: an ordinary run of its own, all of whose weights are trained.
    """
    start = config["start"]
    begin = {"kind": start["from"]}
    if start["from"] == "pretrained":
        begin["weights"] = start["weights"]
    return {
        **config,
        "pruner": dense_pruner(),
        "sparsity": 0.0,
        "prunable": [],
        "start": begin,
        "finetune": _choice("finetune/full"),
        "trainer": start["train"],
    }


def needs_dense(config: Config) -> bool:
    """Whether a run needs the dense run of `dense_start` first."""
    return config["start"]["kind"] == "dense" or bool(config["finetune"].get("distill"))


def dense_pruner() -> Config:
    """The `pruner` node of an unpruned run."""
    return _choice("pruner/dense")


def _choice(name: str) -> Config:
    """What a file of `conf/` says, as `pruner/dense`: of files that interpolate nothing."""
    from omegaconf import OmegaConf

    node: Any = OmegaConf.to_container(OmegaConf.create(_text(name)))
    return dict(node)


@cache
def _text(name: str) -> str:
    return (conf_dir() / f"{name}.yaml").read_text()


def conf_dir() -> Path:
    """The folder of configs: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def threads(config: Config) -> int:
    """CPU threads of a run: part of its identity, for sums differ with it."""
    return int(config["trainer"]["threads"] or os.cpu_count() or 1)


def _data(config: Config) -> str:
    return fingerprint(config["task"]["source"], config["data_root"], config["task"]["name"])


def _tokenizer(config: Config) -> str:
    where = tokenizer_source(config["model"], config["start"])
    return where if where == "data" else fingerprint_of_weights(where, TOKENIZER)


def _start(config: Config, identifier: str) -> Config:
    """What a start is; a dense one by its run, or seedless by its cell."""
    start = config["start"]
    kind = {"kind": start["kind"]}
    if start["kind"] == "pretrained":
        return {**kind, "weights": fingerprint_of_weights(start["weights"])}
    return {**kind, **_dense_run(config, identifier)} if start["kind"] == "dense" else kind


def _finetune(config: Config, identifier: str) -> Config:
    finetune = dict(config["finetune"])
    if finetune.get("distill"):
        finetune["teacher"] = _dense_run(config, identifier)
    return finetune


def _dense_run(config: Config, identifier: str) -> Config:
    identity = identify(dense_start(config))
    return {"run": identity.run_id} if identifier == "run_id" else {"cell": identity.cell_id}


def _hash(part: Config) -> str:
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _drop(part: Config, path: list[str], old: Any) -> None:
    for key in path[:-1]:
        part = part.get(key, {})
    if part.get(path[-1], object()) == old:
        part.pop(path[-1])
