"""Tokenizers made from data, tokens on disk, and GLUE."""

import pytest
import torch

from seven_bench.data import tokens as tokens_module
from seven_bench.data.glue import GlueData
from seven_bench.data.tokenizers import make_tokenizer
from seven_bench.data.tokens import TextDataset, tokenize
from seven_bench.errors import ConfigError
from tests.data.synthetic import GLUE, write_glue

TEXTS = ["One two, two!", "two three three three"]


def glue(root, task, **options):
    write_glue(root, task)
    splits = [path.stem for path in (root / "glue" / task).iterdir()]
    files = {split: root / "glue" / task / f"{split}.parquet" for split in splits}
    columns, classes = GLUE[task]
    options = {"regression": not classes, "max_length": 16, "vocabulary": 100, **options}
    data = GlueData(seed=0, batch_size=8, files=files, tokenizer="data", columns=columns, **options)
    data.setup()
    return data


def test_words_are_numbered_by_how_often_they_come():
    tokenizer = make_tokenizer(TEXTS, size=7)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]) == [0, 1, 2, 3]
    # three and two come three times each, then of those that come once "!" is the first
    assert tokenizer("two THREE ! one")["input_ids"] == [2, 5, 4, 6, 1, 3]
    pair = tokenizer("two", "three")
    assert pair["input_ids"] == [2, 5, 3, 4, 3]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]


def test_texts_are_tokenized_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path))
    tokenizer = make_tokenizer(TEXTS, size=10)
    first = tokenize(tokenizer, TEXTS, None, 4)
    calls = []
    monkeypatch.setattr(tokens_module, "_tokenize", lambda *args: calls.append(args))
    again = tokenize(make_tokenizer(TEXTS, size=10), TEXTS, None, 4)
    assert not calls
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["starts"].diff().tolist() == [4, 4]  # cut to max_length


@pytest.mark.parametrize(
    "change", [{"texts": TEXTS[:1]}, {"length": 5}, {"size": 7}, {"second": ["x", "y"]}]
)
def test_other_content_is_not_taken_for_the_same(monkeypatch, tmp_path, change):
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path))
    for given in ({}, change):
        tokenizer = make_tokenizer(TEXTS, size=given.get("size", 10))
        tokenize(tokenizer, given.get("texts", TEXTS), given.get("second"), given.get("length", 4))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_damaged_cache_is_made_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path))
    tokenizer = make_tokenizer(TEXTS, size=10)
    good = tokenize(tokenizer, TEXTS, None, 4)
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"cut short")
    assert torch.equal(tokenize(tokenizer, TEXTS, None, 4)["ids"], good["ids"])


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEVEN_BENCH_CACHE", str(tmp_path / "file"))
    assert len(tokenize(make_tokenizer(TEXTS, size=10), TEXTS, None, 4)["ids"]) == 8


def test_a_batch_is_padded_to_its_own_longest():
    columns = tokenize(make_tokenizer(TEXTS, size=10), ["one", "one two", "one two three"], None, 9)
    dataset = TextDataset(columns, pad=0, labels=torch.tensor([0, 1, 0]))
    batch = dataset[[1, 0]]
    assert batch["input_ids"].shape == (2, 4)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["input_ids"][1, -1] == 0
    assert batch["labels"].tolist() == [1, 0]
    assert dataset.lengths.tolist() == [3, 4, 5]


@pytest.mark.parametrize("task", sorted(set(GLUE) - {"mnli"}))
def test_every_glue_task_has_its_splits(tmp_path, task):
    data = glue(tmp_path, task)
    assert [data.size(split) for split in ("train", "validation", "test")] == [72, 8, 24]
    batch = next(iter(data.train_dataloader()))
    kind = torch.float32 if task == "stsb" else torch.int64
    assert batch["labels"].dtype == kind and len(batch["labels"]) == 8
    assert data.majority() == (None if task == "stsb" else 0.5)


def test_mnli_is_scored_in_two_parts(tmp_path):
    scored = ["validation_matched", "validation_mismatched"]
    data = glue(tmp_path, "mnli", scored=scored)
    parts = torch.cat([batch["part"] for batch in data.test_dataloader()])
    assert (data.size("test"), data.scored_examples()) == (36, 24)
    assert (parts == 0).sum() == 24 and (parts == 1).sum() == 12
    assert data.majority() == pytest.approx(1 / 3)


def test_the_majority_is_that_of_train_measured_by_the_metric(tmp_path):
    data = glue(tmp_path, "mrpc")
    train, test = data.splits["train"].columns, data.splits["test"].columns
    train["labels"] = torch.tensor([1, 1, 0])
    test["labels"] = torch.tensor([1, 0, 0, 0])
    assert data.majority("accuracy") == 0.25
    assert data.majority("f1") == pytest.approx(0.4)  # precision 1/4, recall 1
    assert data.majority("matthews") == 0
    assert data.majority("pearson") is None
    train["labels"] = torch.tensor([0, 0, 1])
    assert data.majority("f1") == 0


def test_a_split_without_labels_is_refused(tmp_path):
    import datasets

    write_glue(tmp_path, "sst2")
    path = tmp_path / "glue" / "sst2"
    rows = datasets.Dataset.from_parquet(str(path / "validation.parquet"))
    hidden = rows.map(lambda row: {"label": -1})
    hidden.to_parquet(path / "validation.parquet")
    files = {split: path / f"{split}.parquet" for split in ("train", "validation")}
    data = GlueData(
        seed=0, batch_size=8, files=files, tokenizer="data", columns=["sentence"], max_length=9,
        vocabulary=50,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="no labels"):
        data.setup()


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "train.parquet"
    path.write_bytes(b"nothing of the kind")
    data = GlueData(
        seed=0, batch_size=8, files={"train": path, "validation": path}, tokenizer="data",
        columns=["sentence"], max_length=9, vocabulary=50,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"cannot read .*train.parquet"):
        data.setup()
