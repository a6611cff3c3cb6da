"""Checks on composed settings before any work, and on those of a run folder before any use.

Imports neither torch nor Lightning.
"""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import yaml

from seven_bench.errors import ConfigError, install_line
from seven_bench.settings.building import check_targets
from seven_bench.settings.conf import choice, find_file, names_of
from seven_bench.settings.debug import shrunk, with_small_images
from seven_bench.settings.given_masks import check_masks, with_masks
from seven_bench.settings.identity import identify
from seven_bench.settings.model import Settings
from seven_bench.settings.node import misread, read, shown
from seven_bench.settings.own_data import completed
from seven_bench.settings.sources import local_files
from seven_bench.settings.validity import check_metric, check_schedule, resolve
from seven_bench.settings.weights import TOKENIZER, locate, tokenizer_source
from seven_bench.store.files import CONFIG
from seven_bench.store.home import with_home
from seven_bench.store.run_folder import RunFolder

MORE_THAN_CORES = 4  # as many threads or workers a core may be asked for: another machine's number


def checked(composed: Any) -> Settings:
    """The settings of a composed config, resolved and checked.

    Raises: ConfigError on the first setting that cannot work, in one line.
    """
    return check(resolved(composed))


def resolved(composed: Any) -> Any:
    """The values of a composed config, its interpolations resolved. Raises as `checked`."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from seven_bench.settings.by_name import expanded

    _check_kinds(composed)
    composed = expanded(completed(composed))  # own data may say how long texts are
    if composed.get("debug") is True:
        composed = with_small_images(composed)
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        unresolved = OmegaConf.to_container(composed, resolve=False)
        line = misread(Settings, unresolved)
        line = line or f"{error.full_key}: {str(error).splitlines()[0]}"
        raise ConfigError(line) from error
    return plain


def check(plain: Any) -> Settings:
    """The settings that values are, checked. Raises as `checked`."""
    settings = read(Settings, with_masks(with_home(plain)))
    check_targets(settings)
    # 0.1 + 0.2 and 0.3 are the same run
    settings = settings.model_copy(update={"sparsity": round(settings.sparsity, 9)})
    settings = resolve(settings)
    if settings.debug:
        settings = shrunk(settings)
    check_schedule(settings.pruner)
    check_metric(settings.task, settings.objective)
    check_masks(settings)
    _check_name(settings)
    _check_folds(settings)
    _check_machine(settings)
    _check_finetune(settings)
    _check_compile(settings)
    _check_validation(settings)
    _check_temperature(settings)
    _check_augment(settings)
    _check_packages(settings)
    _check_start(settings)
    local_files(settings.task.source, settings.data_root, settings.task.name)
    _check_writable(settings)
    return settings


def stored(folder: Path) -> Settings:
    """The settings in a run's folder: a stranger's, so as strictly checked as what is typed.

    Raises: ConfigError in one line with the file's path.
    """
    try:
        settings = read(Settings, RunFolder(folder).read_config())
        check_targets(settings)
        settings = resolve(settings)
        _check_name(settings)
    except (ConfigError, OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{folder / CONFIG}: {reason}") from error
    return settings


def _check_name(settings: Settings) -> None:
    """A method's name is what tables call it: it may not be that of another."""
    pruner = settings.pruner
    if (pruner.name == "dense") != (pruner.timing == "none" and pruner.small is None):
        raise ConfigError(
            f"pruner.name={pruner.name}: allowed is dense for the run that prunes nothing, and for "
            f"no other; this one has timing={pruner.timing}"
        )
    if find_file(f"pruner/{pruner.name}") is None:
        return
    preset = choice(f"pruner/{pruner.name}")
    kind = pruner.small.kind if pruner.small is not None else None
    if kind != (stated := (preset.get("small") or {}).get("kind")):
        raise ConfigError(
            f"pruner.name={pruner.name}: that is the file with small.kind={stated or 'null'}, not "
            f"{kind or 'null'}; give it a name of its own"
        )
    if pruner.score is None:
        return
    score = preset["score"]["_target_"]
    framed = pruner.timing == preset["timing"] == "after"  # its file is for any score
    if pruner.score.path != score and not framed:
        raise ConfigError(
            f"pruner.name={pruner.name}: that is the method whose score is {score}, not "
            f"{pruner.score.path}; give it a name of its own"
        )


def _check_folds(settings: Settings) -> None:
    folds, split = settings.task.data.arguments.get("folds"), settings.data.split_seed
    if isinstance(folds, int) and split >= folds:
        raise ConfigError(
            f"data.split_seed={split}: task={settings.task.name} has {folds} folds; allowed are 0 "
            f"to {folds - 1}"
        )


def _check_machine(settings: Settings) -> None:
    """Processes, threads and workers are held against this machine's cores."""
    cores = psutil.cpu_count() or 1
    counts = {
        "trainer.devices": (settings.trainer.devices, max(cores, 2)),
        "trainer.threads": (settings.trainer.threads, MORE_THAN_CORES * cores),
        "task.data.workers": (settings.task.data.arguments.get("workers"), MORE_THAN_CORES * cores),
    }
    if settings.start.train is not None:
        train = settings.start.train
        counts["start.train.devices"] = (train.devices, max(cores, 2))
        counts["start.train.threads"] = (train.threads, MORE_THAN_CORES * cores)
    for key, (value, most) in counts.items():
        least = 0 if key.endswith("workers") else 1
        if value is not None and (not isinstance(value, int) or not least <= value <= most):
            raise ConfigError(
                f"{key}={shown(value)}: allowed is a whole number from {least} to {most} on this "
                f"machine of {cores} cores"
            )


def _check_temperature(settings: Settings) -> None:
    calibration = settings.pruner.calibration
    regression = settings.task.data.arguments.get("regression")
    if calibration is not None and calibration.temperature not in (None, 1) and regression:
        raise ConfigError(
            f"pruner.calibration.temperature={calibration.temperature:g}: the loss of "
            f"task={settings.task.name} has no cross-entropy, so it would do nothing; allowed is "
            "null"
        )


def _check_augment(settings: Settings) -> None:
    task, train = settings.task, settings.start.train
    for key, trainer in (("trainer", settings.trainer), ("start.train", train)):
        if trainer is None or not trainer.augment.changes:
            continue
        if task.kind == "text":
            raise ConfigError(f"{key}.augment: task={task.name} has no images to change")
        grey = task.image is not None and task.image.channels == 1
        if trainer.augment.randaugment is not None and grey:
            raise ConfigError(
                f"{key}.augment.randaugment: it changes colours, and the images of "
                f"task={task.name} have none; allowed is null"
            )


def _check_kinds(composed: Any) -> None:
    """A model of texts takes no images: said before interpolation fails on what is not there."""
    from omegaconf import OmegaConf

    for key in ("task", "model", "start", "finetune", "trainer", "pruner"):
        if not OmegaConf.is_dict(OmegaConf.select(composed, key)):
            known = ", ".join(names_of(key))
            raise ConfigError(f"{key} is missing, or no group of settings: allowed are {known}")
    kinds = {group: OmegaConf.select(composed, f"{group}.kind") for group in ("task", "model")}
    if None not in kinds.values() and kinds["task"] != kinds["model"]:
        names = {group: OmegaConf.select(composed, f"{group}.name") for group in kinds}
        raise ConfigError(
            f"model={names['model']} is for {kinds['model']} tasks, task={names['task']} needs one "
            f"for {kinds['task']}: {', '.join(_models_of(kinds['task']))}"
        )


def _models_of(kind: str) -> list[str]:
    """Models of a kind, by a look at their files."""
    files = ((name, find_file(f"model/{name}")) for name in names_of("model"))
    return [name for name, file in files if file and f"\nkind: {kind}\n" in file.read_text()]


def _check_finetune(settings: Settings) -> None:
    finetune, pruner = settings.finetune, settings.pruner
    wanted = {"lora": ("rank", "alpha"), "llrd": ("decay",)}.get(finetune.name, ())
    for key in ("rank", "alpha", "decay"):
        if (getattr(finetune, key) is not None) != (key in wanted):
            said = "needs it" if key in wanted else "has no such key"
            raise ConfigError(f"finetune.{key}: finetune={finetune.name} {said}")
    if finetune.name == "lora":
        if pruner.timing not in ("none", "before"):
            raise ConfigError(
                f"finetune=lora: pruner={pruner.name} prunes {pruner.timing} training, when "
                "LoRA's layers stand in the way; allowed are methods that prune before it"
            )
        if find_spec("peft") is None:
            raise ConfigError(f"finetune=lora needs a package: {install_line('lora')}")


def _check_validation(settings: Settings) -> None:
    if settings.select == "best" and settings.trainer.validate_every is None:
        raise ConfigError(
            "trainer.validate_every=null: select=best chooses by validation; allowed is a whole "
            "number of epochs from 1"
        )


def _check_compile(settings: Settings) -> None:
    """Compiled steps are those of a plain model in one process."""
    trainer = settings.trainer
    if trainer.compile and trainer.devices > 1:
        raise ConfigError(
            f"trainer.compile=true: not with trainer.devices={trainer.devices}; allowed is 1"
        )
    if trainer.compile and settings.finetune.name == "lora":
        raise ConfigError(
            "trainer.compile=true: not with finetune=lora, whose layers stand in the plain "
            "model's place; allowed is false"
        )


def _check_start(settings: Settings) -> None:
    """Pretrained weights and tokenizers are found, or fetched, before any work."""
    model, start = settings.model, settings.start
    distill = settings.finetune.distill
    if start.train is None and (start.kind == "dense" or distill):
        raise ConfigError("start.train is missing: the dense run is trained by it")
    if start.pretrained or (distill and start.from_ == "pretrained"):
        if start.weights is None:
            raise ConfigError(
                f"model={model.name} has no pretrained weights of its own: give "
                "start.weights=FOLDER, or a name on the hub"
            )
        locate(start.weights)
    if model.tokenizer is not None:
        where = tokenizer_source(model, start)
        if where != "data":
            locate(where, TOKENIZER)


def _check_packages(settings: Settings) -> None:
    if settings.logger.name == "wandb" and find_spec("wandb") is None:
        raise ConfigError("logger=wandb needs a package: pip install wandb (or use logger=none)")


def _check_writable(settings: Settings) -> None:
    """A run that is done already needs no room: its folder may be an archive."""
    output_root = settings.output_root
    folder = Path(output_root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if RunFolder(identify(settings).folder(output_root)).state() == "done":
            return
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigError(f"output_root={output_root}: cannot be written ({reason})") from error
