"""Data of one's own: what is found in it (classes, names of labels, sizes of images), and checks.

A task whose `source` has `own` is one: `task=text` and `task=images`. What is found enters the
composed config, so that a run's folder says it. Needs no torch.
"""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.conf import names_of
from seven_bench.settings.model import Data
from seven_bench.settings.node import read, shown
from seven_bench.settings.sources import image_files, is_table
from seven_bench.settings.tables import Table, read_table

SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"),
          "test": ("test",)}  # fmt: skip
LABEL, IMAGE = "label", "image"  # the columns of images in Parquet, unless told otherwise
LONGEST_LABEL = 100  # characters
SUSPECT = 20  # different labels, from where most rows having one of their own is a mistake
LOOKED_AT = 1_000  # images whose size is looked at
STORED = ((48, 32, 4), (144, 64, 8), (math.inf, 224, 16))  # side below, size and patch of a model
COMMON = ("train", "training", "data", "dataset", "all")  # files that are named for no content
REGRESSION, PAIR = ("pearson", "spearman"), ("accuracy", "f1", "matthews")
SEVERAL = ("accuracy", "matthews")
SIZE = "side"  # of the images as they are: no key of the config
GIVEN = ("train", "validation", "test", "text", "label", "image", "regression")


def completed(composed: Any) -> Any:
    """A composed config with what its own data say; any other as it is.

    Raises: ConfigError on a file, column, row or image that cannot be used, naming it; and on keys
        of `data` for a task that has its own.
    """
    from omegaconf import OmegaConf

    node = OmegaConf.select(composed, "data")
    data = read(Data, {} if node is None else OmegaConf.to_container(node, resolve=True), "data.")
    task = OmegaConf.select(composed, "task.name", throw_on_resolution_failure=False)
    if OmegaConf.select(composed, "task.source.own") is None:
        if given := [key for key in data.plain() if key in GIVEN and getattr(data, key)]:
            raise ConfigError(
                f"data.{given[0]}: task={task} has its own data; those of your own are for "
                "task=text and task=images"
            )
        return composed
    kind = OmegaConf.select(composed, "task.kind")
    root = OmegaConf.select(composed, "data_root")
    return _filled(composed, _of_texts(data) if kind == "text" else _of_images(data, root), data)


def _filled(composed: Any, found: dict[str, Any], data: Data) -> Any:
    from omegaconf import OmegaConf, open_dict

    composed = composed.copy()
    side = found.pop(SIZE, None)
    with open_dict(composed):
        for key, value in found.items():
            OmegaConf.update(composed, key, value, merge=False)
        if data.regression and OmegaConf.select(composed, "task.metric.name") == "accuracy":
            composed.task.metric.name = REGRESSION[0]
        if side is not None:  # what was typed stays
            image = composed.task.image
            image.size = image.size or _stored_by(side)[0]
            image.patch = image.patch or _stored_by(image.size)[1]
        name = OmegaConf.select(composed, "task.name")
        if name is None:
            composed.task.name = _named(Path(found["task.source.own"]["train"]))
            composed.task.name_from = "file"
        elif isinstance(name, str) and _is_taken(name):
            raise ConfigError(f"task.name={shown(name)}: that is a task of its own")
    return composed


def _stored_by(side: int) -> tuple[int, int]:
    return next((size, patch) for below, size, patch in STORED if side < below)


def _is_taken(name: str) -> bool:
    return name in names_of("task")


def _named(path: Path) -> str:
    """What tables call data of no name: the file's, or its folder's where it says nothing."""
    parts = [path.stem if path.suffix else path.name, path.absolute().parent.name]
    words = [re.sub(r"[^\w-]+", "-", part).strip("-_") for part in parts]
    known = [word for word in words if word and word.lower() not in COMMON]
    name = (known or words)[0][:60] or "own"
    return f"{name}_own" if _is_taken(name) else name


def _of_texts(data: Data) -> dict[str, Any]:
    for key in ("train", "text", "label"):
        if not getattr(data, key):
            raise ConfigError(
                f"data.{key} is missing: task=text learns from a table, data.train=FILE.csv "
                "data.text=COLUMN data.label=COLUMN"
            )
    if data.image is not None:
        raise ConfigError("data.image: task=text has no images; they are for task=images")
    files = {split: getattr(data, split) for split in SPLITS}
    tables = {split: read_table(Path(file)) for split, file in files.items() if file is not None}
    for table in tables.values():
        for column in data.columns:
            check_texts(table, column)
    labels = str(data.label)
    if data.regression:
        for table in tables.values():
            read_numbers(table, labels)
        names, classes = None, 1
    else:
        names = found_labels(tables["train"], labels)
        for table in tables.values():
            read_classes(table, labels, names)
        classes = len(names)
    metrics = REGRESSION if data.regression else PAIR if classes == 2 else SEVERAL
    return {
        "task.source.own": files,
        "task.data.columns": list(data.columns),
        "task.classes": classes,
        "task.labels": names,
        "task.module.metrics": list(metrics),
    }


def check_texts(table: Table, column: str) -> list[str]:
    """A column of texts. Raises ConfigError, with file and row, where one is none or empty."""
    texts = table.column(column, "data.text")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f"{table.place(row)} has {column}={shown(text)}: allowed is a text")
        if not text.strip():
            raise ConfigError(f"{table.place(row)} has an empty {column}: allowed is a text")
    return texts


def read_numbers(table: Table, column: str) -> list[float]:
    """Numbers to be predicted. Raises ConfigError, with file and row, where one is none."""
    numbers = []
    for row, value in enumerate(table.column(column, "data.label")):
        try:
            number = math.nan if isinstance(value, bool) or value is None else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(
                f"{table.place(row)} has {column}={shown(value)}: allowed is a finite number "
                "(data.regression=true)"
            )
        numbers.append(number)
    return numbers


def found_labels(table: Table, column: str) -> list[str]:
    """The names of the classes, sorted: numbers by size, words by the alphabet.

    Raises: ConfigError where there are not two or more, or as many as in a column of something
        else; and with file and row where a label is missing.
    """
    names = sorted(set(_words(table, column)), key=_order)
    return _checked_labels(names, len(table), f"data.label={column}: {table.places[0][0]}")


def _checked_labels(names: list[str], rows: int, where: str) -> list[str]:
    if len(names) < 2:
        raise ConfigError(f"{where} has one label, {shown(names[0])}: allowed are two or more")
    if len(names) > max(SUSPECT, rows / 2):
        raise ConfigError(
            f"{where} has {len(names):,} labels in {rows:,} rows: is it another column, or a "
            "number to predict (data.regression=true)?"
        )
    return names


def read_classes(table: Table, column: str, labels: Sequence[str]) -> list[int]:
    """A column of labels as indices into their names.

    Raises: ConfigError, with file and row, where one is missing or none of the training data.
    """
    index = {name: number for number, name in enumerate(labels)}
    classes = []
    for row, word in enumerate(_words(table, column)):
        if word not in index:
            raise ConfigError(
                f"{table.place(row)} has {column}={shown(word)}: no label of the training data; "
                f"they are {shown(', '.join(labels))}"
            )
        classes.append(index[word])
    return classes


def _words(table: Table, column: str) -> list[str]:
    """Labels as words, whatever they are in the file."""
    words = []
    names = table.class_names(column)
    for row, value in enumerate(table.column(column, "data.label")):
        word = _word(value, names)
        if not word or not word.isprintable() or len(word) > LONGEST_LABEL:
            raise ConfigError(
                f"{table.place(row)} has {column}={shown(value)}: allowed is a label, a word or a "
                "number"
            )
        words.append(word)
    return words


def _word(value: Any, names: Sequence[str] | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if names is None else names[value] if 0 <= value < len(names) else ""
    if isinstance(value, float):
        return f"{value:.17g}" if math.isfinite(value) else ""
    return value.strip() if isinstance(value, str) else ""


def _order(word: str) -> tuple[float, str]:
    try:
        number = float(word)
    except ValueError:
        return math.inf, word
    return (number, word) if math.isfinite(number) else (math.inf, word)


def _of_images(data: Data, root: Any) -> dict[str, Any]:
    for key in ("text", "regression"):
        if getattr(data, key):
            raise ConfigError(f"data.{key}: task=images has none; it is for task=text")
    given = {split: getattr(data, split) for split in SPLITS}
    if root is None and not data.train:
        raise ConfigError(
            "data_root is missing: task=images learns from data_root=FOLDER (a folder a class, or "
            "Parquet files), or from data.train=FOLDER or FILE.parquet"
        )
    places = {s: Path(p) for s, p in given.items() if p} if data.train else _splits_of(Path(root))
    for split, path in places.items():
        if not path.exists():
            raise ConfigError(f"data.{split}={path}: there is no such file or folder")
    tabular = is_table(places["train"])
    for path in places.values():
        if is_table(path) != tabular:
            raise ConfigError(f"{path}: allowed are folders of images, or Parquet files, not both")
    if tabular:
        labels, sides = _look_at_tables(places, data.image or IMAGE, data.label or LABEL)
    else:
        if data.image or data.label:
            raise ConfigError("data.image, data.label: folders a class have no columns")
        labels, sides = _look_at_folders(places)
    side = statistics.median_low(sides)
    found = {
        "task.source.own": {s: str(places[s]) if s in places else None for s in SPLITS},
        "task.classes": len(labels),
        "task.labels": labels,
        "task.data.image_column": (data.image or IMAGE) if tabular else None,
        "task.data.label_column": (data.label or LABEL) if tabular else None,
    }
    return {**found, SIZE: side}


def _splits_of(root: Path) -> dict[str, Path]:
    """The splits that a folder holds under their names; or itself, all of which is training."""
    if not root.is_dir():
        raise ConfigError(f"data_root={root}: there is no such folder")
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        there = [root / f"{name}{end}" for name in names for end in ("", ".parquet")]
        for path in there:
            if path.is_dir() or path.is_file():
                found.setdefault(split, path)
    others = [path.name for path in root.iterdir() if path.is_dir() and path not in found.values()]
    if "train" not in found or [name for name in others if not name.startswith(".")]:
        return {"train": root}  # a class may be called "test"
    return found


def _look_at_tables(places: dict[str, Path], image: str, label: str) -> tuple[list[str], list[int]]:
    tables = {split: read_table(path, (label,)) for split, path in places.items()}
    for table in tables.values():
        table.check_column(image, "data.image")
    labels = found_labels(tables["train"], label)
    for table in tables.values():
        read_classes(table, label, labels)
    first = read_table(places["train"], (image,))
    return labels, [side_of(*pair) for pair in zip(*_some(first, image), strict=True)]


def _some(table: Table, column: str) -> tuple[list[Any], list[str]]:
    rows = table.rows[column].slice(0, LOOKED_AT).to_pylist()
    return [image_bytes(value) for value in rows], [table.place(row) for row in range(len(rows))]


def image_bytes(value: Any) -> bytes | None:
    """The file of an image in a table: bytes, or a struct with `bytes`, as `datasets` writes it."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None


def _look_at_folders(places: dict[str, Path]) -> tuple[list[str], list[int]]:
    files = {split: image_files(path) for split, path in places.items()}
    labels = sorted(files["train"])
    for split, found in files.items():
        for name in found:
            if name not in labels:
                raise ConfigError(
                    f"{places[split] / name}: no class of the training data; they are "
                    f"{shown(', '.join(labels))}"
                )
            if not name.isprintable() or len(name) > LONGEST_LABEL:
                raise ConfigError(f"{places[split]}: {shown(name)} is no name of a class")
    rows = sum(map(len, files["train"].values()))
    _checked_labels(labels, 2 * rows, str(places["train"]))
    every = [file for name in labels for file in files["train"][name][:LOOKED_AT]]
    step = -(-len(every) // LOOKED_AT)
    return labels, _sides(tuple(map(str, every[::step])), _times(every[::step]))


def _times(files: Iterable[Path]) -> tuple[int, ...]:
    return tuple(os.stat(file).st_ctime_ns for file in files)


@lru_cache(maxsize=3)
def _sides(files: tuple[str, ...], _times: tuple[int, ...]) -> list[int]:
    return [side_of(Path(file), file) for file in files]


def side_of(image: Path | bytes | None, place: str) -> int:
    """The shorter side of an image in pixels, from its head. Raises ConfigError if it is none."""
    from io import BytesIO

    from PIL import Image

    try:
        with Image.open(BytesIO(image) if isinstance(image, bytes) else image or "") as opened:
            return min(opened.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{place}: no image that can be read") from error
