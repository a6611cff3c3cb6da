"""Rows of a data set: local Parquet files, or the hub's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.digests import digest_files
from seven_bench.settings.hub import reachable
from seven_bench.settings.node import shown
from seven_bench.settings.sources import SMALL, parquet_files


def load_rows(
    files: dict[str, Path], hub: str | None, splits: tuple[str, ...], config: str | None = None
) -> Any:
    """Splits as `datasets` rows, from local Parquet files or, without any, from the hub.

    Args:
        files: by split: a Parquet file, or a folder of them; empty: the hub's.
        hub: the data set's name on the hub.
        splits: the hub's names of what is wanted.
        config: the data set's configuration on the hub.

    Raises: ConfigError when there are no local files and the hub cannot be reached, or when a file
        is not what it should be.
    """
    import datasets

    datasets.disable_progress_bars()
    if files:
        return {split: _read_parquet(files[split]) for split in splits}
    there = reachable()
    if not there:
        datasets.config.HF_HUB_OFFLINE = True  # no retries; what is cached is still found
    try:
        return {split: datasets.load_dataset(hub, config, split=split) for split in splits}
    except (OSError, RuntimeError, ValueError) as error:
        name = "/".join(filter(None, (hub, config)))
        reason = (str(error).splitlines() or [""])[0] if there else "the hub cannot be reached"
        raise ConfigError(
            f"no data for {name}: {reason}; connect to the network, or give data_root=FOLDER with "
            "its Parquet files"
        ) from error


def _read_parquet(path: Path) -> Any:
    """A Parquet file, or a folder's, as rows: what is in the files now.

    The cache of `datasets` takes a file of the same name and time for the same content. So small
    files are read past it, and large ones get a cache of their own, named by their content.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = parquet_files(path)
    tables = []
    for file in paths:
        try:
            whole = pq.ParquetFile(file)  # also of a large one: its footer says if it is whole
            if sum(part.stat().st_size for part in paths) <= SMALL:
                tables.append(whole.read())
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names in no UTF-8
            raise ConfigError(f"cannot read {file}: {str(error).splitlines()[0]}") from error
    try:
        digest = digest_files(paths)
        if tables:
            table = datasets.table.InMemoryTable(pa.concat_tables(tables))
            return datasets.Dataset(table, fingerprint=digest[:16])
        cache = Path(datasets.config.HF_DATASETS_CACHE) / f"seven_bench-{digest[:32]}"
        names = [str(file) for file in paths]
        return datasets.load_dataset(
            "parquet", data_files=names, split="train", cache_dir=str(cache)
        )
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        # the last three: what a file says of its own columns is no description of any
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"cannot read {path}: {reason}") from error


def read_texts(rows: Any, column: str, place: object) -> list[str]:
    """A column of texts; `place` is what messages call its file.

    Raises: ConfigError, with the row, where one is no text.
    """
    return read_column(rows, column, place, lambda value: isinstance(value, str), "a text")


def check_not_empty(texts: Mapping[str, list[str]], place: object) -> None:
    """Of each row's texts, by column, one at least has something to read; white space is none.

    Raises: ConfigError, with the row, where all are empty.
    """
    for row, parts in enumerate(zip(*texts.values(), strict=True)):
        if not any(map(str.strip, parts)):
            which = " and ".join(texts)
            raise ConfigError(
                f"{place}: row {row} has {which}={shown(parts[0])}: allowed is a text that is not "
                "empty"
            )


def read_labels(rows: Any, column: str, place: object, regression: bool = False) -> list[Any]:
    """A column of classes from 0, or of finite numbers.

    Raises: ConfigError, with the row, where one is not; -1 is how the hub hides labels.
    """

    def allowed(value: Any) -> bool:
        if regression:
            return type(value) in (int, float) and math.isfinite(value)
        return type(value) is int and 0 <= value < 2**31

    what = "a finite number" if regression else "a whole number from 0 (-1: it has no labels)"
    return read_column(rows, column, place, allowed, what)


def read_column(
    rows: Any, column: str, place: object, allowed: Callable[[Any], bool], what: str
) -> list[Any]:
    """A column's values. Raises: ConfigError, with the row, where one is not `what` is allowed."""
    if column not in rows.column_names:
        raise ConfigError(f"{place}: no column {column}; it has {', '.join(rows.column_names)}")
    try:
        values = list(rows[column])
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{place}: the column {column} cannot be read: {reason}") from error
    for row, value in enumerate(values):
        if not allowed(value):
            raise ConfigError(f"{place}: row {row} has {column}={shown(value)}: allowed is {what}")
    return values
