"""Finished runs, as everything that goes on from one opens them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.store.files import CONFIG, MASKS, MODEL, NEEDED, RECORD
from seven_bench.store.home import with_home
from seven_bench.store.integrity import find_damage
from seven_bench.store.record import RecordError, is_sealed, read_record

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_CONFIG = 1 << 20  # bytes; ours have a few thousand
MOST_NODES = 20_000  # of a config, with what its aliases repeat


class RunError(ValueError):
    """A run that cannot be used. `reason` says why, in one line."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder, self.reason = folder, reason

    def __str__(self) -> str:
        return f"{self.folder}: {self.reason}"


@dataclass(frozen=True)
class FinishedRun:
    """A complete run whose files are whole: its folder, its record, and the config that it was
    made with, its folders absolute again. The last two are a stranger's, and not to be trusted.
    """

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]

    @property
    def sealed(self) -> bool:
        """Whether its files are known to be what was written."""
        return is_sealed(self.record)

    def masks(self) -> dict[str, Tensor]:
        """Bool tensors by the parameters' names. Raises RunError."""
        from seven_bench.store.masks import load_masks

        try:
            return load_masks(self.folder / MASKS)
        except (OSError, ValueError) as error:
            raise RunError(self.folder, str(error).replace(f"{self.folder}/", "")) from error

    def weights(self) -> dict[str, Tensor]:
        """The final effective weights by the plain model's names. Raises RunError."""
        from seven_bench.store.tensors import load_tensors

        try:
            return load_tensors(self.folder / MODEL)
        except (OSError, ValueError) as error:
            raise RunError(self.folder, str(error).replace(f"{self.folder}/", "")) from error


def open_run(folder: str | Path, *, weights: bool = False, unsealed: bool = False) -> FinishedRun:
    """The run in `folder`, its seal checked.

    Args:
        weights: they will be read: check them to the last bit; else their size is looked at.
        unsealed: also a run whose record has no seal.

    Raises: RunError when the run is not complete, damaged or unsealed.
    """
    folder = Path(folder)
    record = check_run(folder, weights=weights, unsealed=unsealed)
    try:
        config: dict[str, Any] = with_home(read_config(folder / CONFIG))
    except (OSError, ValueError) as error:
        raise RunError(folder, f"{CONFIG} {_reason(error)}") from error
    return FinishedRun(folder, record, config)


def check_run(folder: Path, *, weights: bool = False, unsealed: bool = False) -> dict[str, Any]:
    """The record of the run in `folder`; arguments and errors are those of `open_run`."""
    try:
        record = read_record(folder / RECORD, unsealed)
    except RecordError as error:
        raise RunError(folder, f"{RECORD} {error.reason}") from error
    if missing := [name for name in NEEDED if not (folder / name).is_file()]:
        raise RunError(folder, f"{missing[0]} is missing")
    if (damage := find_damage(folder, record, weights)) is not None:
        raise RunError(folder, damage)
    return record


def read_config(path: str | Path) -> dict[str, Any]:
    """The mapping in a run's `config.yaml`: plain values, bounded in size.

    Raises: ValueError with a one-line reason when it is none. OSError.
    """
    import yaml

    path = Path(path)
    if (size := path.stat().st_size) > LARGEST_CONFIG:
        raise ValueError(f"has {size:,} bytes: it is no config")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        config = yaml.load(path.read_bytes(), Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"is not YAML ({_reason(error)})") from error
    if not isinstance(config, dict):
        raise ValueError(f"holds a {type(config).__name__} instead of a mapping")
    _count(config, [0])
    return config


def _count(value: Any, seen: list[int]) -> None:
    """Aliases may repeat what they stand for without end: each counts."""
    seen[0] += 1
    if seen[0] > MOST_NODES:
        raise ValueError(f"holds more than {MOST_NODES:,} values: it is no config")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _count(item, seen)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return (str(error).splitlines() or [type(error).__name__])[0]
