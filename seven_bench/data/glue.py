"""GLUE (Wang et al. 2018, arXiv 1804.07461): one sentence or two, a class or a number."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from seven_bench.data.rows import check_not_empty, load_rows, read_labels, read_texts
from seven_bench.data.task_data import Splits
from seven_bench.data.text import TextData
from seven_bench.data.tokens import TextDataset, tokenize
from seven_bench.errors import ConfigError

Texts = tuple[list[list[str]], list[Any]]  # columns of texts, and labels


class GlueData(TextData):
    """The official validation set is the dev set that is scored once (the test set's labels are
    not public); what chooses epochs is held out of train.

    Options besides those of text: `columns` (one or two), `scored` (the hub's splits that are
    scored; of more than one, which is told by `part` in a batch), `regression`, `train_examples`.
    """

    def load(self) -> Splits:
        scored = list(self.options.get("scored", ["validation"]))
        rows = load_rows(self.files, self.hub, ("train", *scored), self.hub_config)
        rows = self.shortened(rows)
        train, held_out = self.hold_out(len(rows["train"]))
        whole = self._texts(rows["train"], "train")
        parts = {
            "train": _chosen(whole, train.tolist()),
            "validation": _chosen(whole, held_out.tolist()),
            "test": _joined([self._texts(rows[split], split) for split in scored]),
        }
        texts, _ = parts["train"]
        label = rows["train"].features.get("label")
        self.class_names = [*(getattr(label, "names", None) or ())]
        self.tokenizer = self.make_tokenizer(text for column in texts for text in column)
        splits: Splits = {name: self._dataset(*part) for name, part in parts.items()}
        if len(scored) > 1:
            sizes = torch.tensor([len(rows[split]) for split in scored])
            part = torch.arange(len(scored)).repeat_interleave(sizes)
            splits["test"].columns["part"] = part  # type: ignore[attr-defined]
        return splits

    def _texts(self, rows: Any, split: str) -> Texts:
        place, regression = self.place(split), bool(self.options.get("regression"))
        columns = self.options["columns"]
        texts = {column: read_texts(rows, column, place) for column in columns}
        check_not_empty(texts, place)
        labels = read_labels(rows, "label", place, regression)
        if regression and any(label < 0 for label in labels):
            raise ConfigError(f"{place}: this split has no labels")
        return [*texts.values()], labels

    def _dataset(self, texts: list[list[str]], labels: list[Any]) -> TextDataset:
        first, second = texts[0], texts[1] if len(texts) > 1 else None
        tokens = tokenize(self.tokenizer, first, second, self.options["max_length"])
        kind = torch.float32 if self.options.get("regression") else torch.int64
        pad = self.tokenizer.pad_token_id
        return TextDataset(tokens, pad, labels=torch.tensor(labels, dtype=kind))

    def scored_examples(self) -> int:
        return len(self._scored_labels())

    def _scored_labels(self) -> Tensor:
        columns: dict[str, Tensor] = self.splits["test"].columns  # type: ignore[attr-defined]
        labels = columns["labels"]
        return labels[columns["part"] == 0] if "part" in columns else labels


def _chosen(part: Texts, rows: list[int]) -> Texts:
    columns, labels = part
    return [[column[row] for row in rows] for column in columns], [labels[row] for row in rows]


def _joined(parts: list[Texts]) -> Texts:
    columns = zip(*(texts for texts, _ in parts), strict=True)
    return [list(chain(*column)) for column in columns], list(chain(*(ls for _, ls in parts)))
