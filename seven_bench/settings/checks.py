"""Checks on the composed config, before any work. Imports neither torch nor Lightning."""

from __future__ import annotations

import math
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.pruning.schedules import steps_of
from seven_bench.settings.identity import Config, conf_dir
from seven_bench.settings.sources import local_files
from seven_bench.settings.validity import ONE_SHOT, declared, resolve
from seven_bench.settings.weights import TOKENIZER, begins_pretrained, locate, tokenizer_source
from seven_bench.store.home import with_home

TIMINGS = ("none", "before", "during", "rounds", "after")
CHOICES = {
    "select": ("best", "last"),
    "pruner.timing": TIMINGS,
    "pruner.cut": ("exact", "threshold", "above_zero"),
    "pruner.masking": ("hard", "rewire", "regrow", "straight_through"),
    "pruner.observe_at": ("before_step", "after_step"),
    "pruner.begin": ("dense", "random"),
    "pruner.takes_step": (True, False),
    "trainer.optimizer": ("adamw", "sgd"),
    "trainer.lr_schedule": ("linear", "cosine", "constant"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
}
RANGES = {  # key: (lowest, lowest is allowed, highest, whole, null is allowed)
    "trainer.max_epochs": (1, math.inf, int, False),
    "trainer.max_steps": (1, math.inf, int, True),
    "trainer.batch_size": (1, math.inf, int, False),
    "trainer.accumulate": (1, math.inf, int, False),
    "trainer.devices": (1, math.inf, int, False),
    "trainer.threads": (1, math.inf, int, True),
    "trainer.lr": (0, math.inf, float, False),
    "trainer.weight_decay": (0, math.inf, float, False),
    "trainer.warmup": (0, 1, float, False),
    "trainer.gradient_clip": (0, math.inf, float, True),
    "pruner.calibration.examples": (1, math.inf, int, False),
    "pruner.calibration.batch_size": (1, math.inf, int, False),
    "pruner.calibration.temperature": (1e-3, math.inf, float, True),
    "pruner.rounds.fraction": (0, 1, float, True),
    "trainer.checkpoint_every": (0, math.inf, float, False),
}
METHOD_DEFAULTS = {
    "distribution": "global",
    "distributions": None,  # all that the score allows
    "pattern": "unstructured",
    "cut": "exact",
    "observe_at": "before_step",
    "rescore": False,
    "prunable": [],
    "calibration": None,
    "masking": "hard",
    "begin": "dense",
    "takes_step": False,
    "rounds": None,
}


def checked(composed: Any) -> Config:
    """A composed config as plain, resolved, checked values.

    Raises: ConfigError on the first setting that cannot work, in one line.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_kinds(composed)
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    config: Config = with_home(plain)
    if config["pruner"]["timing"] != "none":
        config["pruner"] = with_defaults(config["pruner"])
    _check_sparsity(config)
    _check_seed(config)
    _check_values(config, config["trainer"], "trainer")
    if "train" in config["start"]:
        _check_values(config, config["start"]["train"], "start.train")
    resolve(config)
    _check_pruner(config)
    _check_finetune(config)
    _check_packages(config)
    _check_start(config)
    local_files(config["task"]["source"], config["data_root"], config["task"]["name"])
    _check_writable(config["output_root"])
    return config


def with_defaults(pruner: Config) -> Config:
    """The pruner node with all its keys.

    Raises: ConfigError on a key that no method has.
    """
    known = {*METHOD_DEFAULTS, "name", "timing", "score", "schedule"}
    if odd := pruner.keys() - known:
        raise ConfigError(f"pruner.{min(odd)}: no such key; known are {', '.join(sorted(known))}")
    fixed = pruner.get("distributions")
    return {**METHOD_DEFAULTS, **({"distribution": fixed[0]} if fixed else {}), **pruner}


def calibration_batches(config: Config) -> int:
    """Steps of a `before` method: its calibration batches, or 1 where it looks at none."""
    calibration = config["pruner"]["calibration"]
    return math.ceil(calibration["examples"] / calibration["batch_size"]) if calibration else 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_sparsity(config: Config) -> None:
    value = config["sparsity"]
    if not _number(value) or not 0 <= value < 1:
        raise ConfigError(
            f"sparsity={value}: allowed is a number in [0, 1), the fraction of weights to remove"
        )
    config["sparsity"] = round(float(value), 9)  # 0.1 + 0.2 and 0.3 are the same run


def _check_seed(config: Config) -> None:
    value = config["seed"]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise ConfigError(f"seed={value}: allowed is a whole number from 0")


def _look_up(config: Config, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _check_values(config: Config, trainer: Config, name: str) -> None:
    view = {**config, "trainer": trainer}
    for key, allowed in CHOICES.items():
        value = _look_up(view, key)
        if value is not None and value not in allowed:
            shown = key.replace("trainer", name)
            raise ConfigError(f"{shown}={value}: allowed are {', '.join(allowed)}")
    for key, (low, high, kind, nullable) in RANGES.items():
        value = _look_up(view, key)
        if value is None and (nullable or not key.startswith("trainer.")):
            continue
        whole = kind is int and not isinstance(value, int)
        if not _number(value) or whole or not low <= value <= high:
            what = "a whole number" if kind is int else "a number"
            top = "" if high == math.inf else f" to {high}"
            shown = key.replace("trainer", name)
            raise ConfigError(f"{shown}={value}: allowed is {what} from {low}{top}")


def _check_pruner(config: Config) -> None:
    pruner = config["pruner"]
    if pruner["timing"] in ("rounds", "after"):
        _check_rounds(pruner)
    if pruner["timing"] in ("none", "during"):
        return
    from seven_bench.settings.building import build

    needs = declared(pruner["score"]["_target_"])["needs"]
    if needs > {"weights"} or "weights" not in needs:
        _check_calibration(pruner)
    batches = calibration_batches(config)
    try:
        schedule = build(pruner["schedule"])
        schedule.plan(batches, batches)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"pruner={pruner['name']}: {error} (calibration batches)") from error
    if (once := needs & ONE_SHOT) and schedule.name != "one_shot":
        raise ConfigError(
            f"pruner.schedule={schedule.name}: a score that needs {', '.join(once)} is taken once; "
            "allowed is OneShot"
        )


def _check_calibration(pruner: Config) -> None:
    given = pruner["calibration"] or {}
    if not {"examples", "batch_size"} <= given.keys() <= {"examples", "batch_size", "temperature"}:
        raise ConfigError(
            f"pruner.calibration={pruner['calibration']}: the score of pruner={pruner['name']} "
            "wants the keys examples and batch_size (and may have temperature)"
        )


def _check_rounds(pruner: Config) -> None:
    rounds = pruner["rounds"] or {}
    if set(rounds) != {"fraction", "rewind"}:
        raise ConfigError(f"pruner.rounds={rounds}: allowed are the keys fraction and rewind")
    if rounds["fraction"] in (0, 1):
        raise ConfigError(f"pruner.rounds.fraction={rounds['fraction']}: between 0 and 1, or null")
    if rounds["rewind"] not in (None, "start"):
        try:
            steps_of(rounds["rewind"], 1, 1)
        except ValueError as error:
            raise ConfigError(f"pruner.rounds.rewind: {error}, 'start' or null") from error


def _check_kinds(composed: Any) -> None:
    """A model of texts takes no images: said before interpolation fails on what is not there."""
    from omegaconf import OmegaConf

    kinds = {group: OmegaConf.select(composed, f"{group}.kind") for group in ("task", "model")}
    if kinds["task"] != kinds["model"]:
        names = {group: OmegaConf.select(composed, f"{group}.name") for group in kinds}
        raise ConfigError(
            f"model={names['model']} is for {kinds['model']} tasks, task={names['task']} needs one "
            f"for {kinds['task']}: {', '.join(_models_of(kinds['task']))}"
        )


def _models_of(kind: str) -> list[str]:
    """Models of a kind, by a look at their files."""
    files = sorted((conf_dir() / "model").glob("*.yaml"))
    return [file.stem for file in files if f"\nkind: {kind}\n" in file.read_text()]


def _check_finetune(config: Config) -> None:
    finetune, timing = config["finetune"], config["pruner"]["timing"]
    if finetune["name"] == "lora":
        if timing not in ("none", "before"):
            raise ConfigError(
                f"finetune=lora: pruner={config['pruner']['name']} prunes {timing} training, when "
                "LoRA's layers stand in the way; allowed are methods that prune before it"
            )
        if find_spec("peft") is None:
            raise ConfigError("finetune=lora needs a package: pip install 'peft>=0.18'")
    for key, low, high in (
        ("rank", 1, math.inf), ("alpha", 0, math.inf), ("decay", 0, 1), ("distill_weight", 0, 1),
        ("temperature", 0, math.inf),
    ):  # fmt: skip
        value = finetune.get(key, 1)
        if not _number(value) or not low <= value <= high or (value == 0 and high != 1):
            raise ConfigError(f"finetune.{key}={value}: allowed is a number from {low} to {high:g}")


def _check_start(config: Config) -> None:
    """Pretrained weights and tokenizers are found, or fetched, before any work."""
    model, start = config["model"], config["start"]
    if begins_pretrained(start) or (
        config["finetune"]["distill"] and start["from"] == "pretrained"
    ):
        if start["weights"] is None:
            raise ConfigError(
                f"model={model['name']} has no pretrained weights of its own: give "
                "start.weights=FOLDER, or a name on the hub"
            )
        locate(start["weights"])
    if "tokenizer" in model:
        where = tokenizer_source(model, start)
        if where != "data":
            locate(where, TOKENIZER)


def _check_packages(config: Config) -> None:
    if config["logger"]["name"] == "wandb" and find_spec("wandb") is None:
        raise ConfigError("logger=wandb needs a package: pip install wandb (or use logger=none)")


def _check_writable(output_root: str) -> None:
    folder = Path(output_root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigError(f"output_root={output_root}: cannot be written ({reason})") from error
