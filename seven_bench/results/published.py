"""Published numbers: the rows and the ordering claims of `conf/paper/*.yaml`.

A file is laid out as the tables that it quotes. `common` holds fields of all its rows. Each block
of `rows` is one table: under `values`, a line for each value of the field named `by` (default: the
method); a field that is a list has one entry a column. In a cell, `84.3±0.2` carries a standard
deviation, `~` marks what its source or its reader calls approximate, `<` and `>` a bound, null what
could not be read. `unit` is the cells' unit: `percent` is stored as a fraction. `error` is the
reading error of a figure, `tolerance` half the range that a value is the middle of. `forms` names
further methods of the suite that a published one may be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

KINDS = ("table", "digitised", "second_hand")
DENOMINATORS = ("prunable", "encoder", "non_embedding", "model")
UNITS = {"percent": 0.01, "plain": 1.0}
#: How far a value read off a figure may lie from what was plotted, where its reader states nothing;
#: and every value that its source or its reader calls approximate: a point.
READ_OFF = 0.01
_CELL = re.compile(r"([~<>]?)(-?\d+(?:\.\d+)?)(?:±(\d+(?:\.\d+)?))?")


class PaperError(ValueError):
    """A file of published numbers that cannot be used; the message says where and why."""


Forms = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Row:
    """One published number, with what is known of its setting; None is "not stated".

    `value`, `std`, `error` and `tolerance` are in the record's unit (fractions for percentages).
    `error` bounds how far the number may lie from what was measured: rounding, and the reading of a
    figure. A value with a `tolerance` is the middle of a range that is half as wide.
    `sparsity` is the fraction removed of `denominator`. `method` is the suite's name where it has
    the method. `bound` is "<" or ">" where the value limits what was published. `linears` counts
    the layers that were pruned. A row with `hardware` belongs to that machine. `verified` says how
    sure the reading of the number is, where more than its kind is known. `stands_for` names the
    published method where `method` is another form of it. `masks` says whose masks a method was
    given, as a record does (`lth of glue/mnli`), `masks_experiment` which experiment finds them.
    """

    source: str
    locator: str
    kind: str
    task: str
    model: str
    method: str
    metric: str
    value: float
    error: float = 0.0
    tolerance: float | None = None
    std: float | None = None
    bound: str = ""
    approximate: bool = False
    split: str | None = None
    start: str | None = None
    sparsity: float | None = None
    denominator: str | None = None
    pattern: str = "unstructured"
    distribution: str | None = None
    control: str = "none"
    finetune: str = "full"
    epochs: float | None = None
    lr: float | None = None
    batch_size: int | None = None
    schedule: str | None = None
    kd: bool | None = None
    seeds: int | None = None
    linears: int | None = None
    hardware: str | None = None
    higher_is_better: bool = True
    experiment: str | None = None
    verified: str | None = None
    note: str | None = None
    masks: str | None = None
    masks_experiment: str | None = None
    stands_for: str | None = None

    @property
    def told(self) -> str:
        """The method, whose masks it was given, and whose number it is held against where that is
        another's.
        """
        told = f"{self.method} ({self.masks})" if self.masks else self.method
        return f"{told} (for {self.stands_for})" if self.stands_for else told


@dataclass(frozen=True)
class Claim:
    """`above` is better than `below` by more than `by`, in the metric's unit.

    Both are rows without a value: they carry the setting in which the claim was made.
    """

    above: Row
    below: Row
    by: float = 0.0


@dataclass(frozen=True)
class Paper:
    """One file: its rows and claims. Methods in `reconstructed` have no released code. What is
    published of a method is there again for each other form of it that the suite has.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    reconstructed: frozenset[str]
    settings: Mapping[str, str]


_DERIVED = {"value", "bound", "approximate", "source", "stands_for"}
_FIELDS = {field.name for field in fields(Row)} - _DERIVED
_TEXTS = {
    *("locator", "kind", "task", "model", "method", "metric", "split", "start", "denominator"),
    *("pattern", "distribution", "finetune", "schedule", "hardware", "experiment", "note"),
    *("control", "verified", "masks", "masks_experiment"),
}
_FLAGS = {"kd", "higher_is_better"}
_REQUIRED = ("locator", "kind", "task", "model", "method", "metric")


def list_papers(folder: str | Path) -> list[str]:
    """Names of the papers in a folder, sorted."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


def read_paper(path: str | Path) -> Paper:
    """Read one file of published numbers.

    Raises PaperError for a file that is missing or malformed, naming the block and the field.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PaperError(f"{path}: cannot be read ({error.strerror or error})") from error
    except yaml.YAMLError as error:
        raise PaperError(f"{path}: is not YAML ({str(error).splitlines()[0]})") from error
    known = {"title", "source", "common", "rows", "claims", "reconstructed", "settings"}
    known |= {"forms"}
    if not isinstance(content, dict) or not {"title", "source", "rows"} <= content.keys() <= known:
        raise PaperError(
            f"{path}: needs title, source and rows; may have {', '.join(sorted(known))}"
        )
    common = {"source": content["source"], **(content.get("common") or {})}
    rows: list[Row] = []
    claims: list[Claim] = []
    for number, block in enumerate(content["rows"] or [], 1):
        try:
            rows += _expand(common, block)
        except (TypeError, ValueError) as error:
            raise PaperError(f"{path}: block {number} of rows: {error}") from error
    for number, block in enumerate(content.get("claims") or [], 1):
        try:
            claims += _expand_claim(common, block)
        except (TypeError, ValueError) as error:
            raise PaperError(f"{path}: block {number} of claims: {error}") from error
    forms: Forms = content.get("forms") or {}
    reconstructed = {*(content.get("reconstructed") or ())}
    reconstructed |= {form for method in reconstructed for form in forms.get(method, ())}
    return Paper(
        path.stem,
        str(content["title"]),
        str(content["source"]),
        tuple(form for row in rows for form in _in_forms(row, forms)),
        tuple(form for claim in claims for form in _claim_in_forms(claim, forms)),
        frozenset(reconstructed),
        {str(key): str(value) for key, value in (content.get("settings") or {}).items()},
    )


def _in_forms(row: Row, forms: Forms) -> Iterator[Row]:
    yield row
    for form in forms.get(row.method, ()):
        yield replace(row, method=form, stands_for=row.method)


def _claim_in_forms(claim: Claim, forms: Forms) -> Iterator[Claim]:
    """Of a claim about two forms of methods each is held against the other side as it is."""
    for above in _in_forms(claim.above, forms):
        yield replace(claim, above=above)
    for below in [*_in_forms(claim.below, forms)][1:]:
        yield replace(claim, below=below)


def _expand(common: Mapping[str, Any], block: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one table: its lines times its columns, without the cells that are null."""
    given = {**common, **block}
    values, by = given.pop("values"), given.pop("by", "method")
    scale = _scale(given)
    columns = {name: value for name, value in given.items() if isinstance(value, list)}
    for key, line in values.items():
        for name, column in columns.items():
            if len(column) != len(line):
                raise ValueError(f"{name} has {len(column)} columns, {key} has {len(line)}")
        for index, cell in enumerate(line):
            if cell is None:
                continue
            here = {name: column[index] for name, column in columns.items()}
            yield _make_row({**given, **here, by: key}, cell, scale)


def _scale(given: dict[str, Any]) -> float:
    unit = given.pop("unit", "plain")
    if unit not in UNITS:
        raise ValueError(f"unit={unit}: allowed are {', '.join(UNITS)}")
    return UNITS[unit]


def _make_row(given: Mapping[str, Any], cell: Any, scale: float) -> Row:
    found = _CELL.fullmatch(str(cell).strip())
    if found is None:
        raise ValueError(f"{cell!r} is not a number, ~number, <number, >number or number±number")
    mark, number, spread = found.groups()
    row = _make_setting(given, scale)
    std = row.std if spread is None else float(spread) * scale
    rounding = 0.5 * scale / 10 ** len(number.partition(".")[2])
    read = READ_OFF if row.kind == "digitised" and given.get("error") is None else row.error
    return replace(
        row,
        value=round(float(number) * scale, 10),
        std=None if std is None else round(std, 10),
        error=round(rounding + (max(read, READ_OFF) if mark == "~" else read), 10),
        bound=mark if mark in ("<", ">") else "",
        approximate=mark == "~",
    )


def _make_setting(given: Mapping[str, Any], scale: float) -> Row:
    """A row without its value."""
    source = given["source"]
    settings = {name: value for name, value in given.items() if name != "source"}
    if unknown := settings.keys() - _FIELDS:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
    if missing := [name for name in _REQUIRED if settings.get(name) is None]:
        raise ValueError(f"{', '.join(missing)} is missing")
    plain = {name: _read(name, value) for name, value in settings.items() if value is not None}
    for name, allowed in (("kind", KINDS), ("denominator", DENOMINATORS)):
        if name in plain and plain[name] not in allowed:
            raise ValueError(f"{name}={plain[name]}: allowed are {', '.join(allowed)}")
    if not 0 <= plain.get("sparsity", 0) < 1:
        raise ValueError(f"sparsity={plain['sparsity']}: is the fraction removed, in [0, 1)")
    for name in ("std", "error", "tolerance"):
        if name in plain:
            plain[name] = round(plain[name] * scale, 10)
    return Row(source=source, value=math.nan, **plain)


def _read(name: str, value: Any) -> Any:
    if name in _TEXTS:
        return str(value)
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value}: allowed are true and false")
        return value
    number = float(value)  # 8e-5 is text to YAML 1.1
    return int(number) if name in ("seeds", "batch_size", "linears") else number


def _expand_claim(common: Mapping[str, Any], block: Mapping[str, Any]) -> Iterator[Claim]:
    """One claim for each task, sparsity and pair of neighbours."""
    given = {**common, **block}
    order, above, below = (given.pop(name, None) for name in ("order", "above", "below"))
    if (order is None) == (above is None) or (above is None) != (below is None):
        raise ValueError("needs either order, or above and below")
    pairs = list(pairwise(order)) if order else [(above, other) for other in below]
    scale = _scale(given)
    margin = float(given.pop("by", 0)) * scale
    tasks, sparsities = (_as_list(given.pop(name)) for name in ("task", "sparsity"))
    for task in tasks:
        for sparsity in sparsities:
            here = {**given, "task": task, "sparsity": sparsity}
            for better, worse in pairs:
                first, second = (
                    _make_setting({**here, "method": name}, scale) for name in (better, worse)
                )
                yield Claim(first, second, margin)


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]
