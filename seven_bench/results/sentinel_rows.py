"""`sentinels.json` of a run: its schema, how it is read, and what the page shows of it.

    format          "seven_bench.sentinels/2"
    run_id          of the record beside it; mask_hash: of the masks that were analysed
    start           kind and, of a dense start, run_id: the weights at which gradients were taken
    data            split, examples (distinct), batches, batch_size, dropout
    noise_floor     the GSNR that pure noise shows on average over these batches
    weights, kept   counts
    deciles         ten, of sensitivity, the highest first; cut: the places around the count kept.
                    Each: weights, low and high (its sensitivities), sentinels, sentinels_kept,
                    temporary, temporary_kept (counts; a sentinel is above the median GSNR there)
    gsnr, c         mean and median for kept, removed, all, and by_sensitivity (as many weights as
                    are kept, by sensitivity alone); null where there is none

`seven_bench.measure.gradient_noise` has the definitions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seven_bench.results.groups import Group
from seven_bench.store.files import SENTINELS
from seven_bench.store.schema import Count, Text, find_odd, show

SENTINELS_FORMAT = "seven_bench.sentinels/2"
LARGEST_FILE = 16 << 20  # bytes; ours have a few thousand


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


class _Counts(_Part):
    weights: Count
    sentinels: Count
    sentinels_kept: Count
    temporary: Count
    temporary_kept: Count


class _Mean(_Part):
    mean: float | None


class _Ratios(_Part):
    kept: _Mean


class _Noise(_Ratios):
    by_sensitivity: _Mean


class _Start(_Part):
    kind: Text


class _Data(_Part):
    split: Text
    examples: Count
    batches: Count
    batch_size: Count
    dropout: bool


class _Analysis(_Part):
    """What is shown of a file; the rest is nobody's business here."""

    mask_hash: Text
    start: _Start
    data: _Data
    noise_floor: float | None
    deciles: Annotated[list[_Counts], Field(min_length=10, max_length=10)]
    cut: _Counts
    gsnr: _Noise
    c: _Ratios


def read_sentinels(folder: str | Path) -> dict[str, Any] | None:
    """The analysis of the run in `folder`; None where there is none.

    Raises ValueError with a one-line reason when the file cannot be used.
    """
    path = Path(folder, SENTINELS)
    try:
        if not path.exists():
            return None
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            raise ValueError("is not a file, or too large a one")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"is not whole or not JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict) or found.get("format") != SENTINELS_FORMAT:
        raise ValueError(f"is not of the format {SENTINELS_FORMAT}")
    if odd := find_odd(found):
        raise ValueError(f"is no analysis: {odd}")
    try:
        _Analysis.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] in ("missing", "too_short", "too_long"):
            raise ValueError(f"lacks a part of its format ({place})") from error
        raise ValueError(f"has {place} {show(first['input'])}: {first['msg']}") from error
    return found


@dataclass(frozen=True)
class SentinelRow:
    """One method at one sparsity, means over the seeds analysed; NaN where there is nothing.

    `cut` and each of `deciles` (highest sensitivity first) hold the share kept of sentinels and of
    temporary sentinels. `gsnr` and `evenness` are means over what is kept, `by_sensitivity` the
    GSNR of as many weights by sensitivity alone, `floor` the GSNR that pure noise shows.
    """

    method: str
    sparsity: float
    seeds: int
    cut: tuple[float, float]
    deciles: tuple[tuple[float, float], ...]
    gsnr: float
    by_sensitivity: float
    evenness: float
    floor: float


@dataclass(frozen=True)
class SentinelTable:
    """The rows of one group and the words that say what they were measured on."""

    title: str
    caption: str
    rows: tuple[SentinelRow, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """A sentence for each row whose GSNR does not rise above noise."""
        return tuple(filter(None, map(doubt, self.rows)))


def tabulate_sentinels(
    groups: Sequence[Group],
) -> tuple[list[SentinelTable], list[tuple[Path, str]]]:
    """Tables of the groups that have analyses, and the files that could not be used, with why."""
    analyses, damaged = {}, []
    for group in groups:
        for folder, mask_hash in group.runs[["folder", "mask_hash"]].itertuples(index=False):
            try:
                analysis = read_sentinels(folder)
            except ValueError as error:
                damaged.append((Path(folder, SENTINELS), str(error)))
                continue
            if analysis is not None and analysis.get("mask_hash") != mask_hash:
                damaged.append((Path(folder, SENTINELS), "is of other masks than the record"))
            elif analysis is not None:
                analyses[str(folder)] = analysis
    return tabulate_analyses(groups, analyses), damaged


def tabulate_analyses(
    groups: Sequence[Group], analyses: Mapping[str, Mapping[str, Any]]
) -> list[SentinelTable]:
    """Tables of analyses, given by their runs' folders.

    A row is one method under one control and one recipe: nothing that the names of a group tell
    apart is averaged.
    """
    tables = []
    for group in groups:
        found: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
        runs = group.runs[["method", "sparsity.target", "folder"]]
        for method, sparsity, folder in runs.itertuples(index=False):
            if str(folder) in analyses:
                cell = found.setdefault((str(method), float(sparsity)), [])
                cell.append(analyses[str(folder)])
        if found:
            order = {method: place for place, method in enumerate(group.methods)}
            keys = sorted(found, key=lambda key: (-key[1], order[key[0]]))
            rows = tuple(average_sentinels(*key, found[key]) for key in keys)
            several = [analysis for cell in found.values() for analysis in cell]
            tables.append(SentinelTable(group.title, describe_data(several), rows))
    return tables


def average_sentinels(
    method: str, sparsity: float, analyses: Sequence[Mapping[str, Any]]
) -> SentinelRow:
    """Means over the seeds of one cell."""
    deciles = [
        _average_shares([analysis["deciles"][place] for analysis in analyses])
        for place in range(10)
    ]
    return SentinelRow(
        method,
        sparsity,
        len(analyses),
        _average_shares([analysis["cut"] for analysis in analyses]),
        tuple(deciles),
        _mean([analysis["gsnr"]["kept"]["mean"] for analysis in analyses]),
        _mean([analysis["gsnr"]["by_sensitivity"]["mean"] for analysis in analyses]),
        _mean([analysis["c"]["kept"]["mean"] for analysis in analyses]),
        _mean([analysis["noise_floor"] for analysis in analyses]),
    )


def doubt(row: SentinelRow) -> str:
    """What to beware of where a GSNR lies below its noise floor; nothing where it does not."""
    low = [
        f"{words} {value:.3f}"
        for words, value in (("kept", row.gsnr), ("by sensitivity", row.by_sensitivity))
        if value < row.floor
    ]
    if not low:
        return ""
    return (
        f"{row.method} at {row.sparsity:g}: the GSNR ({', '.join(low)}) is below the noise floor "
        f"of {row.floor:.3f}: it tells nothing of steady and noisy weights; take more batches, or "
        "larger ones."
    )


def _average_shares(parts: Sequence[Mapping[str, int]]) -> tuple[float, float]:
    shares = [
        _mean([_divide(part[f"{kind}_kept"], part[kind]) for part in parts])
        for kind in ("sentinels", "temporary")
    ]
    return shares[0], shares[1]


def _divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def describe_data(analyses: Sequence[Mapping[str, Any]]) -> str:
    """What gradients were taken on, in a sentence for each way there is."""
    floors: dict[str, list[float | None]] = {}
    for analysis in analyses:
        data = analysis["data"]
        way = (
            f"{data['batches']} batches of {data['batch_size']} from {data['examples']} "
            f"{data['split']} examples, which nothing was scored on, dropout "
            f"{'on' if data['dropout'] else 'off'}, at the weights of the start "
            f"{analysis['start']['kind']}"
        )
        floors.setdefault(way, []).append(analysis["noise_floor"])
    return " ".join(
        f"{way}; without any signal the GSNR is {_mean(found):.3f} on average."
        for way, found in floors.items()
    )
