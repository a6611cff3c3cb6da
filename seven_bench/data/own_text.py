"""Texts of one's own: one column or two, classes by name or numbers."""

from __future__ import annotations

from typing import Any

import torch

from seven_bench.data.by_content import divided, tell_copies
from seven_bench.data.task_data import Splits
from seven_bench.data.text import TextData
from seven_bench.data.tokens import TextDataset, tokenize
from seven_bench.settings.own_data import check_texts, read_classes, read_numbers
from seven_bench.settings.tables import Table, read_table

Rows = tuple[list[list[str]], list[Any]]  # columns of texts, and labels


class OwnText(TextData):
    """Options besides those of text: `columns` (one or two), `label` (a column), `labels` (names
    of the classes, in order), `regression`, `train_examples`.
    """

    def load(self) -> Splits:
        rows = {split: self._rows(read_table(path)) for split, path in self.files.items()}
        every = {
            split: ["\0".join(row).encode() for row in zip(*texts, strict=True)]
            for split, (texts, _) in rows.items()
        }
        tell_copies(every)
        (texts, labels), keys = rows.pop("train"), every["train"]
        seed, most = self.split_seed, self.options.get("train_examples")
        for split, (given, theirs) in rows.items():
            rows[split] = [self.some(column) for column in given], self.some(theirs)
        for split, found in divided(keys, rows, seed, most).items():
            chosen = self.some(found)
            rows[split] = (
                [[column[row] for row in chosen] for column in texts],
                [labels[row] for row in chosen],
            )
        self.tokenizer = self.make_tokenizer(t for column in rows["train"][0] for t in column)
        return {split: self._dataset(*part) for split, part in rows.items()}

    def _rows(self, table: Table) -> Rows:
        texts = [check_texts(table, column) for column in self.options["columns"]]
        if self.options["regression"]:
            return texts, read_numbers(table, self.options["label"])
        return texts, read_classes(table, self.options["label"], self.options["labels"])

    def _dataset(self, texts: list[list[str]], labels: list[Any]) -> TextDataset:
        first, second = texts[0], texts[1] if len(texts) > 1 else None
        tokens = tokenize(self.tokenizer, first, second, self.options["max_length"])
        kind = torch.float32 if self.options["regression"] else torch.int64
        pad = self.tokenizer.pad_token_id
        return TextDataset(tokens, pad, labels=torch.tensor(labels, dtype=kind))
