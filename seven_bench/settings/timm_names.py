"""What timm says of a classifier: image size, normalisation, weights; and whether it can be pruned.

timm and torch are slow to import: what they say is kept in the cache folder, by timm's version and
by the rules for what can be pruned.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.digests import cache_folder
from seven_bench.settings.model import as_folder
from seven_bench.settings.node import shown
from seven_bench.store.atomic import replace_file


@dataclass(frozen=True)
class TimmFacts:
    """Pixels of a side, mean and deviation of each colour, the weights' name on the hub, and why
    the model cannot be pruned by a rule, if so.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str | None
    problem: str | None


@cache
def facts_of(name: str) -> TimmFacts:
    """What is known of a model of timm by its name. Raises: ConfigError when there is none."""
    try:
        file = as_folder(name)
    except ValueError as error:
        raise ConfigError(f"model.name={shown(name)}: allowed is {error}") from error
    known = cache_folder() / "timm" / f"{version('timm')}-{_rules()}" / f"{file}.json"
    found = _kept(known)
    if found is None:
        found = _ask(name)
        with suppress(OSError):  # without room or leave to keep it, it is asked again
            replace_file(known, json.dumps(asdict(found)).encode())
    return found


@cache
def _rules() -> str:
    """A hash of what an answer depends on beside timm."""
    here = Path(__file__)
    files = (here, here.parents[1] / "pruning" / "prunable.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _kept(path: Path) -> TimmFacts | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept: dict[str, Any] = json.loads(path.read_bytes())
        kept |= {key: _colours(kept[key], 0.0) for key in ("mean", "std")}
        return TimmFacts(**kept)
    return None


def _ask(name: str) -> TimmFacts:
    import timm

    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        near = ", ".join(sorted(timm.list_models(), key=lambda model: -_alike(model, bare))[:3])
        raise ConfigError(f"model.name={shown(name)}: timm has no such model, but {near}, ...")
    try:
        stated = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ConfigError(f"model.name={name}: {str(error).splitlines()[0]}") from error
    cfg: dict[str, Any] = asdict(stated) if stated is not None else {}
    size = tuple(cfg.get("input_size") or (3, 224, 224))[-1]
    return TimmFacts(
        size=int(size),
        mean=_colours(cfg.get("mean"), 0.5),
        std=_colours(cfg.get("std"), 0.5),
        weights=_weights(cfg, name),
        problem=_problem(name),
    )


def _alike(one: str, other: str) -> int:
    """How many letters two names begin with together."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))


def _colours(values: Any, default: float) -> tuple[float, float, float]:
    red, green, blue = values or (default,) * 3
    return float(red), float(green), float(blue)


def _weights(cfg: dict[str, Any], name: str) -> str | None:
    hub = cfg.get("hf_hub_id")
    if not hub:
        return None
    tagged = f"{name.partition('.')[0]}.{cfg['tag']}" if cfg.get("tag") else name
    return f"{hub}{tagged}" if hub.endswith("/") else str(hub)


def _problem(name: str) -> str | None:
    """Why its weights cannot be pruned by a rule; null where they can, or it cannot be told."""
    import timm
    import torch

    from seven_bench.pruning.prunable import prunable_parameters

    try:
        with torch.device("meta"):
            model = timm.create_model(name.partition(".")[0], pretrained=False)
    except Exception:  # some models compute while they are made
        return None
    try:
        prunable_parameters(model)
    except ValueError as error:
        return str(error)
    return None
