"""Rows are those of the files as they are now, whatever a cache or a clock says."""

from __future__ import annotations

import io
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from seven_bench.data import rows
from seven_bench.data.glue import GlueData
from seven_bench.data.images import ImageData, Lazy, Normalize
from seven_bench.data.rows import check_not_empty, load_rows
from seven_bench.data.squad import SquadData
from seven_bench.errors import ConfigError
from seven_bench.settings.model import Source
from seven_bench.settings.sources import fingerprint

SOURCE = Source(hub="owner/name", files={"train": "train.parquet"})


def write(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts, "label": list(range(len(texts)))}), path)


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_a_replaced_file_of_the_same_name_size_and_time_is_read_anew(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(rows, "SMALL", 0)
    path = tmp_path / "train.parquet"
    write(path, ["aaaa", "bbbb"])
    before, size = path.stat(), path.stat().st_size
    first = load_rows({"train": path}, None, ("train",))["train"]
    printed = fingerprint(SOURCE, str(tmp_path), "task")
    assert list(first["text"]) == ["aaaa", "bbbb"]
    write(path, ["cccc", "dddd"])
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_size == size
    second = load_rows({"train": path}, None, ("train",))["train"]
    assert list(second["text"]) == ["cccc", "dddd"]
    assert fingerprint(SOURCE, str(tmp_path), "task") != printed


def test_a_folder_of_files_is_read_in_order_as_one(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.parquet", [name])
    found = load_rows({"train": tmp_path}, None, ("train",))["train"]
    assert list(found["text"]) == ["a", "b"]
    assert found.select([1])[0]["text"] == "b"


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all", None])
def test_a_broken_file_is_named_in_one_line(
    content: bytes | None, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(rows, "SMALL", 0)
    path = tmp_path / "train.parquet"
    write(path, ["a"] * 100)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(ConfigError, match=r"cannot read .*train\.parquet: \w") as error:
        load_rows({"train": path}, None, ("train",))
    assert "\n" not in str(error.value)


SOUND = {"sentence": [f"film {n}" for n in range(20)], "label": [n % 2 for n in range(20)]}
WRONG = {
    "labels as text": ({"label": ["good"] * 20}, "row 0 has label=good: allowed is a whole number"),
    "no label": ({"label": [0, 1, None] * 7}, "row 2 has label=null: allowed is a whole number"),
    "a hidden label": ({"label": [0, -1] * 10}, "row 1 has label=-1: allowed is a whole number"),
    "half a label": ({"label": [0.5] * 20}, "row 0 has label=0.5: allowed is a whole number"),
    "no text": ({"sentence": ["a", None] * 10}, "row 1 has sentence=null: allowed is a text"),
    "numbers for texts": ({"sentence": [7] * 20}, "row 0 has sentence=7: allowed is a text"),
    "a label too many": ({"label": [0, 5] * 10}, "is 5: allowed are 0 to 1 (task.classes=2)"),
    "an empty text": (
        {"sentence": ["a", ""] * 10},
        "row 1 has sentence=: allowed is a text that is",
    ),
    "white space": ({"sentence": ["a", "\t \n"] * 10}, "row 1 has sentence=\\t \\n: allowed is a"),
    "another column": ({"label": None}, "no column label; it has sentence"),
}


@pytest.mark.parametrize("name", WRONG)
def test_rows_that_are_none_are_named_by_file_and_row(name: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    found = {key: values for key, values in {**SOUND, **change}.items() if values is not None}
    size = min(map(len, found.values()))
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({key: values[:size] for key, values in found.items()}), path)
    data = GlueData(
        seed=0, batch_size=8, files={"train": path, "validation": path}, tokenizer="data",
        columns=["sentence"], max_length=9, vocabulary=50,
    )  # fmt: skip
    data.classes = 2
    with pytest.raises(ConfigError) as error:
        data.setup()
    assert str(error.value).startswith(str(path)) and words in str(error.value)


FEW = {
    "no row": (0, 20, "too few rows, 0 of train, 0 of validation, 20 of test: allowed are 2 or"),
    "one row": (1, 20, "too few rows, 1 of train, 0 of validation, 20 of test: allowed are 2 or"),
    "nothing held out": (9, 20, "too few rows, 9 of train, 0 of validation, 20 of test"),
    "nothing to score": (20, 0, "too few rows, 18 of train, 2 of validation, 0 of test"),
}


@pytest.mark.parametrize("name", FEW)
def test_too_few_rows_are_said_with_the_files(name: str, tmp_path: Path) -> None:
    train, dev, words = FEW[name]
    for split, size in (("train", train), ("validation", dev)):
        texts = pa.array(["a film"] * size, pa.string())
        table = pa.table({"sentence": texts, "label": pa.array([0] * size, pa.int64())})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    data = GlueData(
        seed=0, batch_size=8, tokenizer="data", columns=["sentence"], max_length=9, vocabulary=50,
        files={split: tmp_path / f"{split}.parquet" for split in ("train", "validation")},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=words) as error:
        data.setup()
    assert str(error.value).startswith(f"{tmp_path}/train.parquet, {tmp_path}/validation.parquet")


def test_of_a_pair_one_may_be_empty(tmp_path: Path) -> None:
    """Quora's questions have such rows."""
    check_not_empty({"one": ["a", ""], "two": ["", "b"]}, "place")
    with pytest.raises(ConfigError, match="place: row 1 has one and two=: allowed is a text that"):
        check_not_empty({"one": ["a", ""], "two": ["", " "]}, "place")


PARAGRAPH = {
    "id": "1", "title": "t", "context": "Anna went home.", "question": "Who went?",
    "answers": {"text": ["Anna"], "answer_start": [0]},
}  # fmt: skip
ODD_QUESTIONS = {
    "no question": ({"question": None}, "row 1 has question=null: allowed is a text"),
    "an empty question": ({"question": " "}, "row 1 has question= : allowed is a text that is not"),
    "an empty paragraph": ({"context": ""}, "row 1 has context=: allowed is a text that is not"),
    "no answer": ({"answers": {"text": [], "answer_start": []}}, "allowed is one or more of text"),
    "no answers at all": ({"answers": None}, "row 1 has answers=null: allowed is one or more of"),
    "a start too few": (
        {"answers": {"text": ["Anna", "home"], "answer_start": [0]}}, "row 1 has answers={'text':"
    ),
    "an answer beyond": (
        {"answers": {"text": ["home"], "answer_start": [99]}},
        "row 1 has answers.answer_start=99: allowed is a place in its context of 15 characters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_QUESTIONS)
def test_questions_that_are_none_are_named_by_file_and_row(name: str, tmp_path: Path) -> None:
    change, words = ODD_QUESTIONS[name]
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([PARAGRAPH, {**PARAGRAPH, **change}]), path)
    data = SquadData(
        seed=0, batch_size=8, files={"train": path, "validation": path}, tokenizer="data",
        max_length=9, stride=2, vocabulary=50,
    )  # fmt: skip
    with pytest.raises(ConfigError) as error:
        data.setup()
    assert str(error.value).startswith(str(path)) and words in str(error.value)


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "png")
    return file.getvalue()


ODD_IMAGES = {
    "no image": (None, "row 1 has no img: null is not an image"),
    "an empty one": (b"", "row 1 has no img: what is there is no image, or of no known kind"),
    "text": (b"a" * 99, "row 1 has no img: what is there is no image, or of no known kind"),
    "one cut short": (_png()[:40], "row 1 has no img: "),
}


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "lazy"])
@pytest.mark.parametrize("name", ODD_IMAGES)
def test_images_that_are_none_are_named_by_file_and_row(
    name: str, lazy: bool, tmp_path: Path
) -> None:
    content, words = ODD_IMAGES[name]
    path = tmp_path / "train.parquet"
    images = [_png(), content, *[_png()] * 8]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    parts = [i if i is None else {"bytes": i, "path": None} for i in images]
    rows = [{"img": part, "label": 0} for part in parts]
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)
    data = ImageData(
        seed=0, batch_size=8, files={"train": path, "test": path}, lazy=lazy, image_column="img",
        label_column="label", image={"size": 4, "mean": [0, 0, 0], "std": [1, 1, 1]},
    )  # fmt: skip

    def read() -> None:
        data.setup()
        data.splits["test"][range(10)]

    with pytest.raises(ConfigError) as error:
        read()
    told = str(error.value)
    assert told.startswith(str(path)) and "\n" not in told
    assert (words.replace("no img", "no image") if lazy else words) in told


def test_of_a_folder_of_images_the_file_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(_png() if name == "a" else b"")
    image = {"size": 4, "mean": [0, 0, 0], "std": [1, 1, 1]}
    paths = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"]
    lazy = Lazy(paths, torch.zeros(2), torch.arange(2), Normalize(**image), str(tmp_path))
    assert lazy[[0]]["pixel_values"].shape == (1, 3, 4, 4)
    with pytest.raises(ConfigError, match=rf"{tmp_path}/b/1\.png: .* no known kind"):
        lazy[[0, 1]]
