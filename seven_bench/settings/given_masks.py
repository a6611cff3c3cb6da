"""The masks that `pruner.masks` names: read once, held against the settings, told by their source.

They count by content and by source, never by path. The source is the run that found them, but for
its seed and its machine, or what a file is called by `pruner.masks_name`, or else its content: runs
whose masks come from one source are replicates. Needs no torch.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.pruning.distributions import kept_count
from seven_bench.pruning.patterns import PATTERNS
from seven_bench.settings.model import Pruner, Settings
from seven_bench.settings.node import shown
from seven_bench.settings.validity import takes_masks
from seven_bench.store.files import CONFIG, MASKS, MODEL, RECORD
from seven_bench.store.given_masks import GivenMasks, read_given
from seven_bench.store.record import RecordError, read_record

UNKNOWN = "unknown"  # what the masks have cost, where no record says it
DIGITS = 9  # of a sparsity
LONGEST = 200  # characters of a source
#: What of a run's record makes it another source, beside its recipe and its method.
_SOURCE = ("task", "model", "start", "pruner", "distribution", "pattern", "control", "finetune")


def given_masks(pruner: Pruner) -> GivenMasks | None:
    """The masks that a method is given; None of one that finds its own.

    Raises: ConfigError in one line with the path and what is wrong, or expected.
    """
    if not takes_masks(pruner):
        if pruner.masks is not None:
            raise ConfigError(f"pruner.masks: pruner={pruner.name} finds its own; allowed is null")
        return None
    if pruner.masks is None:
        raise ConfigError(
            f"pruner.masks=null: pruner={pruner.name} is given its masks: a run's folder, a "
            f"safetensors file of 0 and 1 by the weights' names, or a {MODEL} whose zeros they are"
        )
    return masks_at(pruner.masks)


def masks_at(path: str) -> GivenMasks:
    """The masks at a path, or at the one path that a pattern matches. Raises as `given_masks`."""
    try:
        found = _locate(Path(path).expanduser())
        return _read(str(found), _stamp(found))
    except (OSError, ValueError) as error:
        raise ConfigError(f"pruner.masks={shown(path)}: {error}") from error


def _locate(path: Path) -> Path:
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return path
    found = sorted(map(Path, glob.glob(str(path))))
    whole = [one for one in found if one.is_file() or (one / RECORD).is_file()] or found
    if len(whole) > 1:  # a control's runs lie beside those that it is a control of
        whole = [one for one in whole if _control_of(one) == "none"] or whole
    if len(whole) != 1:
        which = ", ".join(one.name for one in whole[:3]) + ", ..." * (len(whole) > 3)
        told = f"{len(whole)} paths match it ({which})" if whole else "nothing matches it"
        raise ValueError(f"{told}: it must be one, a finished run's folder or a file")
    return whole[0]


def _control_of(folder: Path) -> str:
    try:
        return str(read_record(folder / RECORD)["control"])
    except RecordError:
        return "none"  # what is wrong with it is said where it is the one


def _stamp(path: Path) -> tuple[tuple[int, ...], ...]:
    """What the file system says of all that is read there."""
    inside = path if path.is_dir() else path.parent
    files = {path, *(inside / name for name in (RECORD, CONFIG, MASKS, MODEL))}
    stats = [os.stat(file) for file in sorted(files) if file.exists()]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


@lru_cache(maxsize=4)  # a run asks several times
def _read(path: str, _: tuple[tuple[int, ...], ...]) -> GivenMasks:
    return read_given(Path(path))


def with_masks(plain: Any) -> Any:
    """Values of settings with the path of given masks made out, in which `$seed` and `$sparsity`
    are the run's (in the cells of an experiment Hydra resolves `${seed}` too early); and with the
    masks' sparsity and pattern where these are null.

    Raises: ConfigError where there are masks and they do not say it, and as `given_masks`.
    """
    pruner = plain.get("pruner") or {}
    path, sparsity = pruner.get("masks"), plain.get("sparsity")
    if not isinstance(path, str):
        return plain
    known = {"seed": plain.get("seed")}
    if isinstance(sparsity, int | float):
        known["sparsity"] = f"{sparsity:g}"
    path = Template(path).safe_substitute(known)
    plain = {**plain, "pruner": {**pruner, "masks": path}}
    if sparsity is not None:
        return plain
    given = masks_at(path)
    if given.weights:
        raise ConfigError(
            f"sparsity=null: {given.file} holds weights, of which the model says what is prunable: "
            "allowed is a number, that of the zeros among these"
        )
    own = given.record["pattern"] if given.record is not None else None
    pattern = plain.get("pattern") or (own if own in PATTERNS else None)
    return {**plain, "pattern": pattern, "sparsity": _sparsity(given, pattern)}


def _sparsity(given: GivenMasks, pattern: str | None) -> float:
    """The sparsity of masks: what their run was asked for, or else the shortest number that removes
    as many.
    """
    kept, total = given.counts
    if given.record is not None:
        asked: float = given.record["sparsity"]["target"]
        if asked < 1 and _due(given, asked, pattern) in (None, kept):
            return round(asked, DIGITS)
    return shortest(kept, total)


def shortest(kept: int, total: int) -> float:
    """The shortest number of which the exact count is `kept`; 0 where all are."""
    for digits in range(1, DIGITS + 1):
        sparsity = round(1 - kept / total, digits)
        if sparsity < 1 and kept_count(total, sparsity) == kept:
            return sparsity
    return round(1 - kept / total, DIGITS)


def _due(given: GivenMasks, sparsity: float, pattern: str | None) -> int | None:
    """Weights to keep at a sparsity; None where that is for the model to say."""
    form = PATTERNS[pattern or "unstructured"]
    if given.weights or form.coupled:
        return None
    return form.reachable(given.masks.shapes, kept_count(given.counts[1], sparsity))


def check_masks(settings: Settings) -> None:
    """Raises ConfigError where masks cannot be read, or are not of the sparsity that is asked for;
    whether they are the model's, `seven_bench.running.given_masks` sees.
    """
    pruner = settings.pruner
    given = given_masks(pruner)
    if pruner.masks_name is not None and given is None:
        raise ConfigError(f"pruner.masks_name: pruner={pruner.name} is given no masks")
    if given is None:
        return
    if given.record is not None and given.record.get("debug") and not settings.debug:
        raise ConfigError(
            f"pruner.masks={shown(pruner.masks)}: {given.file.parent} is a run of debug=true, "
            "whose masks mean nothing; allowed is one without"
        )
    try:
        due = _due(given, settings.sparsity, settings.pattern)
    except ValueError as error:
        raise ConfigError(f"pattern={settings.pattern}: {given.file}: {error}") from error
    kept, total = given.counts
    if due is not None and due != kept:
        raise wrong_count(settings, given, kept, total, due)


def wrong_count(
    settings: Settings, given: GivenMasks, kept: int, total: int, due: int
) -> ConfigError:
    """What is said of masks whose count is not the exact one of the sparsity that is asked for."""
    own, pattern = shortest(kept, total), settings.pattern
    if _due(given, own, pattern) not in (None, kept):
        return ConfigError(
            f"pruner.masks: {given.file} removes {total - kept:,} of {total:,} weights, no number "
            f"of pattern={pattern}: allowed is the pattern that it was made with"
        )
    also = "" if given.weights else ", or null"
    return ConfigError(
        f"sparsity={settings.sparsity:g}: {total - due:,} of {total:,} weights are to be removed, "
        f"and {given.file} removes {total - kept:,}: allowed is {own:g}{also}"
    )


def source_part(settings: Settings) -> dict[str, str]:
    """What says which masks these are without saying which seed's; nothing where none are given."""
    pruner = settings.pruner
    given = given_masks(pruner)
    if given is None:
        return {}
    name = {} if pruner.masks_name is None else {"masks_name": pruner.masks_name}
    if given.record is not None:
        return {"masks": f"run {_run_without_seed(given.record)}", **name}
    return {"masks": "file" if name else f"file {given.hash[:16]}", **name}


def _run_without_seed(record: Mapping[str, Any]) -> str:
    """One for the runs that differ in their seeds, or their machine, alone."""
    from seven_bench.results.recipes import identify_recipe  # brings pandas

    method = record.get("method")
    if not record.get("recipe") or not isinstance(method, Mapping):
        return str(record["cell_id"])
    told = {name: record[name] for name in _SOURCE}
    told |= {"sparsity": record["sparsity"]["target"], "epoch": record["metric"]["epoch"]}
    return identify_recipe({**record["recipe"], **method, "run": told})


def tell_source(settings: Settings) -> dict[str, Any] | None:
    """What a record says of the masks that a run was given; None of a run that found its own.

    `from` is what tables call them. `example_equivalents` is what it has cost to find them, the
    whole bill of the run that did, or "unknown": never nothing.
    """
    pruner = settings.pruner
    given = given_masks(pruner)
    if given is None:
        return None
    told: dict[str, Any] = {"hash": given.hash}
    record = given.record
    if record is None:
        name = pruner.masks_name or f"file {given.hash[:8]}"
        return {"from": name, "kind": "file", **told, "example_equivalents": UNKNOWN}
    total = record["cost"]["example_equivalents"]["total"]
    return {
        "from": pruner.masks_name or describe(record),
        "kind": "run",
        **told,
        "mask_hash": record["mask_hash"],
        **{name: record[name] for name in ("run_id", "cell_id", "task", "model", "pruner", "seed")},
        "sparsity": record["sparsity"]["target"],
        "example_equivalents": UNKNOWN if total is None else total,
    }


def describe(record: Mapping[str, Any]) -> str:
    """A run's method and task in words: `lth of glue/mnli`, of at most `LONGEST` characters."""
    method = record["pruner"]
    if record["control"] not in (None, "none"):
        method += f", {record['control']}"
    if (before := (record.get("masks") or {}).get("from")) is not None:
        method += f" ({before})"
    return f"{method} of {record['task']}"[:LONGEST]


def bill(settings: Settings, start: Mapping[str, Any] | None) -> float | None:
    """Example equivalents of finding the masks; None where no record says it. A dense start that
    both have is counted once.

    Args:
        start: the record of this run's own dense start, if it has one.
    """
    given = given_masks(settings.pruner)
    if given is None or given.record is None:
        return None
    record = given.record
    spent = record["cost"]["example_equivalents"]
    if spent["total"] is None:
        return None
    same = start is not None and _begins_from(record, start)
    return float(spent["total"] - ((spent["start"] or 0) if same else 0))


def _begins_from(record: Mapping[str, Any], start: Mapping[str, Any]) -> bool:
    """Whether the dense start of a run is this one: of its task, model, seeds and recipe."""
    if record["start"] not in ("dense", "dense_pretrained"):
        return False
    split = [(one.get("seeds") or {}).get("split", 0) for one in (record, start)]
    if any(record[name] != start[name] for name in ("task", "model", "seed")) or len({*split}) > 1:
        return False
    theirs, ours = record.get("recipe") or {}, start.get("recipe") or {}
    trained = {k.removeprefix("start.train."): v for k, v in theirs.items() if "start.train." in k}
    own = {k.removeprefix("trainer."): v for k, v in ours.items() if k.startswith("trainer.")}
    kept = ("task.data_fingerprint", "start.weights")
    return bool(trained) and trained == own and all(theirs.get(k) == ours.get(k) for k in kept)
