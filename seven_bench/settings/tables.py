"""Tables of one's own: CSV, TSV, JSON lines and Parquet, read as they are now. Needs no torch."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.errors import ConfigError
from seven_bench.settings.node import shown

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*DELIMITED, *LINES, ".parquet")
LARGEST_BLOCK = 2**31 - 1  # bytes that pyarrow's reader of CSV takes at once


@dataclass(frozen=True)
class Table:
    """Rows of one or several files. `places` are the files and how many rows each has, in order;
    `known` all columns there are, of which `rows` may hold some.
    """

    places: tuple[tuple[Path, int], ...]
    known: tuple[str, ...]
    rows: pa.Table

    def __len__(self) -> int:
        return sum(rows for _, rows in self.places)

    def check_column(self, name: str, key: str) -> None:
        """Raises ConfigError, with the columns there are, where the one given as `key` is none."""
        if name not in self.known:
            near = difflib.get_close_matches(name, self.known, n=1)
            hint = f"; did you mean {shown(near[0])}?" if near else ""
            known, file = ", ".join(map(shown, self.known)), self.places[0][0]
            raise ConfigError(
                f"{key}={shown(name)}: {file} has no such column; it has {known}{hint}"
            )

    def column(self, name: str, key: str) -> list[Any]:
        """A column's plain values: of CSV and TSV all are texts. Raises as `check_column` does."""
        self.check_column(name, key)
        values: list[Any] = self.rows[name].to_pylist()
        return values

    def class_names(self, name: str) -> list[str] | None:
        """Names of the classes that whole numbers of a column stand for, if `datasets` has written
        them beside it.
        """
        try:
            told = json.loads((self.rows.schema.metadata or {})[b"huggingface"])
            feature = told["info"]["features"][name]
            names = feature["names"] if feature["_type"] == "ClassLabel" else None
            return None if names is None else [str(name) for name in names]
        except (KeyError, ValueError, TypeError):
            return None

    def place(self, row: int) -> str:
        """What a message calls a row: its file and its number there."""
        for file, rows in self.places:
            if row < rows:
                return f"{file}: row {row} (the first is 0)"
            row -= rows
        raise IndexError(row)


def read_table(path: Path, columns: tuple[str, ...] | None = None) -> Table:
    """A file of one of the formats of `SUFFIXES`, or the Parquet files of a folder.

    Args:
        path: of a file or a folder.
        columns: of Parquet only these are read, those that are there; None: all.

    Raises: ConfigError, in one line with the file (and the row, where one is to blame).
    """
    key = tuple((str(file), *_stamp(file)) for file in table_files(path))
    return _read(key, columns)


def table_files(path: Path) -> list[Path]:
    """The files that a table is made of. Raises ConfigError where it is none."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: a folder without Parquet files; allowed is a file of a table")
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: there is no such file")
        if file.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"{file}: no table that is known; allowed are {', '.join(SUFFIXES)}")
    return files


def _stamp(file: Path) -> tuple[int, ...]:
    s = os.stat(file)
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns


@lru_cache(maxsize=3)  # the splits of one data set
def _read(key: tuple[tuple[Any, ...], ...], columns: tuple[str, ...] | None) -> Table:
    """The table of files as they stand: their names, then what the file system says of each."""
    import pyarrow as pa

    parts: list[pa.Table] = []
    known: list[str] = []
    files = [Path(path) for path, *_ in key]
    for file in files:
        try:
            names, part = _read_file(file, columns)
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = "; it must be UTF-8" if "utf" in reason.lower() else ""
            raise ConfigError(f"cannot read {file}: {shown(reason)}{hint}") from error
        if not part.num_rows:
            raise ConfigError(f"{file}: it has no rows")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"{file}: two columns are called {shown(twice[0])}")
        if names != (known := known or names):
            raise ConfigError(f"{file}: its columns are not those of {files[0]}")
        parts.append(part)
    try:
        rows = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise ConfigError(f"{files[0].parent}: its files do not go together: {error}") from error
    places = tuple((file, part.num_rows) for file, part in zip(files, parts, strict=True))
    return Table(places, tuple(known), rows)


def _read_file(file: Path, columns: tuple[str, ...] | None) -> tuple[list[str], pa.Table]:
    """The names of all columns, and the rows."""
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        whole = pq.ParquetFile(file)
        names = whole.schema_arrow.names
        wanted = None if columns is None else [name for name in names if name in columns]
        # of no column it would say that there are no rows
        return names, whole.read(columns=wanted or None)
    content = file.read_bytes()
    if not content.strip():
        raise ValueError("it is empty")
    rows = _read_lines(content) if suffix in LINES else _read_delimited(content, DELIMITED[suffix])
    return rows.column_names, rows


def _read_delimited(content: bytes, delimiter: str) -> pa.Table:
    """Every value as the text that it is: what it means, its column says. A CSV file without a
    comma among its columns' names is one of semicolons, as half of the world's spreadsheets write.
    """
    import pyarrow as pa
    from pyarrow import csv

    header = content.splitlines()[0]
    if delimiter == "," and b"," not in header and b";" in header:
        delimiter = ";"
    reading = csv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, LARGEST_BLOCK))
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    names = csv.read_csv(
        pa.BufferReader(header + b"\n"),
        csv.ReadOptions(use_threads=False),
        csv.ParseOptions(delimiter=delimiter),
    ).column_names
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    return csv.read_csv(pa.BufferReader(content), reading, parsing, converting)


def _read_lines(content: bytes) -> pa.Table:
    """An object a line, or one list of objects; what an object lacks is null."""
    import pyarrow as pa

    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        rows = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"line {number} is no JSON ({error})") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is no object of names and values")
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = [[row.get(name) for row in rows] for name in names]
    return pa.Table.from_arrays([_array(column) for column in values], names=names)


def _array(column: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # words and numbers in one column
        return pa.array([None if value is None else str(value) for value in column])
