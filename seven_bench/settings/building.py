"""Objects from `_target_` nodes: those that the installed configuration names, or that of a plug-in
which the user has installed or named, and no others.

A run folder's config is a stranger's: what it names is looked up among these, exactly, and what it
would call them with is checked.
"""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from seven_bench.errors import ConfigError
from seven_bench.settings.conf import ConfSource, conf_dir, conf_sources, yaml_files
from seven_bench.settings.model import Pruner, Settings
from seven_bench.settings.node import Target, shown
from seven_bench.settings.packages import outside_package

# The key that a target stands at, and its name.
TARGET = re.compile(r"(\w+):\s*\{?\s*_target_:\s*([\w.]+)")
FURTHER = (("schedule", "seven_bench.pruning.Linear"),)  # may be typed though no file names it
OURS = ("seven_bench.",)
MODELS = "seven_bench.training.models."
# A model is built of numbers, and of these words; nothing that could name a file or an address.
WORDS = (
    "head", "model_type", "model_name", "hidden_act", "activation", "norm_rel_ebd", "pos_att_type",
    "conv_act", "pooler_hidden_act",
)  # fmt: skip
WORD = re.compile(r"\w[\w.|-]{0,99}")
# A library's own class takes what gives it its shape, and nothing else.
SHAPE = frozenset({
    "model_name", "img_size", "in_chans", "num_classes", "patch_size", "embed_dim", "depth",
    "num_heads", "mlp_ratio", "qkv_bias", "drop_rate", "attn_drop_rate", "drop_path_rate",
})  # fmt: skip


def targets(key: str | None = None) -> frozenset[str]:
    """Every `_target_` of the installed configuration and of plug-ins, or those that stand at a key
    (`score`). A plug-in adds those of its own packages alone.
    """
    named = [*FURTHER]
    for source in conf_sources():
        named += [pair for pair in _named(source) if source.may_name(pair[1])]
    return frozenset(name for where, name in named if key in (None, where))


@cache
def _named(source: ConfSource) -> frozenset[tuple[str, str]]:
    """All targets of a folder with their keys, but for Hydra's own parts."""
    folder = source.folder
    files = (path for path in yaml_files(folder) if path.relative_to(folder).parts[0] != "hydra")
    found = (TARGET.findall(path.read_text(encoding="utf-8")) for path in files)
    return frozenset(pair for pairs in found for pair in pairs)


def check_target(target: Target, key: str = "") -> None:
    """Raises ConfigError unless it is one of the `targets` of its key (of any, if none is given),
    and what builds a model is given a shape alone.
    """
    known = targets(key.rpartition(".")[2] or None)
    if target.path not in known:
        near = difflib.get_close_matches(target.path, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{key}{'.' if key else ''}_target_={shown(target.path)}: allowed is what a file of "
            f"the installed configuration names{hint or _unnamed(target)}"
        )
    outside = is_outside(target.path)
    if not outside and not target.path.startswith(OURS):
        _check_shape(target.arguments, key or target.path, SHAPE)
    elif target.path.startswith(MODELS) or (outside and target.path in targets("build")):
        _check_shape(target.arguments, key or target.path, None)


def is_outside(path: str) -> bool:
    """Whether a target is a plug-in's, and none that the suite's own configuration names."""
    own = ConfSource(conf_dir())
    return outside_package(path) is not None and all(path != name for _, name in _named(own))


def _unnamed(target: Target) -> str:
    """A hint for what a folder of the user's names, of a package that the user did not name."""
    given = [source for source in conf_sources() if source.origin]
    if any(target.path == path for source in given for _, path in _named(source)):
        package = target.path.partition(".")[0]
        return f", or of a plug-in: plugins=[{package}] makes that package one"
    return ""


def check_targets(settings: Settings) -> None:
    """Raises ConfigError where settings name a target that is not allowed."""
    task, pruner = settings.task, settings.pruner
    named = {
        "task.data": task.data,
        "task.module": task.module,
        "model.build": settings.model.build,
        "pruner.score": pruner.score,
        "pruner.schedule": pruner.schedule,
    }
    for key, target in named.items():
        if target is not None:
            check_target(target, key)


def _check_shape(arguments: Mapping[str, Any], key: str, known: frozenset[str] | None) -> None:
    """Arguments are numbers, or those words that name a shape; of a library's, those `known`."""
    for name, value in arguments.items():
        where = f"{key}.{name}"
        if known is not None and name not in known:
            raise ConfigError(f"{where}: no such key; known are {', '.join(sorted(known))}")
        if isinstance(value, Mapping):
            _check_shape(value, where, known)
        elif isinstance(value, str):
            if name not in WORDS or not WORD.fullmatch(value):
                raise ConfigError(f"{where}={shown(value)}: allowed is a number")
        elif value is not None and not isinstance(value, bool | int | float):
            raise ConfigError(f"{where}={shown(value)}: allowed is a number")


def build(target: Target, /, **given: Any) -> Any:
    """Calls a target with its own arguments and those `given` by the program.

    Raises: ConfigError when it is not one of `targets`, cannot be imported, or takes no such
        arguments.
    """
    check_target(target)
    factory = _imported(target.path)
    if twice := sorted(given.keys() & target.arguments.keys()):
        raise ConfigError(f"{target.path}: {twice[0]} is given by the program")
    if target.path.startswith(OURS) or is_outside(target.path):
        _check_arguments(factory, target)
    try:
        return factory(**target.arguments, **given)
    except TypeError as error:
        raise ConfigError(f"{target.path}: {str(error).splitlines()[0]}") from error


def defaults(target: Target) -> dict[str, Any]:
    """What a target's arguments are where its file says nothing. Raises: as `build` does."""
    check_target(target)
    given = inspect.signature(_imported(target.path)).parameters.values()
    return {each.name: each.default for each in given if each.default is not each.empty}


def build_score(pruner: Pruner) -> Any:
    """A method's score.

    Raises: ConfigError when its class says other needs, or another way to compare its scores, than
        the method's file.
    """
    if pruner.score is None:
        raise ConfigError(f"pruner.score is missing: pruner={pruner.name} has none")
    score = build(pruner.score)
    for key, stated in (("needs", {*pruner.needs}), ("compared", pruner.compared)):
        if (own := getattr(score, key)) != stated:
            file, own = (", ".join(sorted(v)) if key == "needs" else v for v in (stated, own))
            raise ConfigError(
                f"pruner.{key}: the file of pruner={pruner.name} says {file}, its class "
                f"{pruner.score.path} says {own}: one of them is wrong"
            )
    return score


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_={path}: {error}") from error
    if not callable(factory):
        raise ConfigError(f"_target_={path}: it is nothing that can be called")
    found: Callable[..., Any] = factory
    return found


def _check_arguments(factory: Callable[..., Any], target: Target) -> None:
    """Arguments are those that the signature has, of the kinds that it says."""
    signature = inspect.signature(factory).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    function = factory.__init__ if inspect.isclass(factory) else factory
    hints = typing.get_type_hints(function, include_extras=True)
    for name, value in target.arguments.items():
        if name in signature and name in hints:
            _check_kind(hints[name], value, f"{target.path}: {name}={shown(value)}")
        elif name not in signature and not open_ended:
            known = ", ".join(p for p in signature) or "none"
            raise ConfigError(f"{target.path}: {name}: no such key; known are {known}")


def _check_kind(hint: Any, value: Any, where: str) -> None:
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True))
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return  # no plain value
    try:
        adapter.validate_python(tuple(value) if _wants_tuple(hint, value) else value)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise ConfigError(f"{where}: allowed is {said}") from error


def _wants_tuple(hint: Any, value: Any) -> bool:
    """Whether a YAML list stands for a tuple."""
    kinds = (hint, *typing.get_args(hint))
    return isinstance(value, list) and any(typing.get_origin(kind) is tuple for kind in kinds)
