"""Tokenised text in memory: flat arrays, cached on disk by the content they were made from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from seven_bench.data.tokenizers import content_hash
from seven_bench.settings.digests import cache_folder
from seven_bench.store.tensors import load_tensors, write_tensors

log = logging.getLogger(__name__)
VERSION = "1"  # of what is cached; a change of meaning takes a new one
CHUNK = 10_000  # texts a call of the tokenizer
Columns = dict[str, Tensor]


def cached(key: Sequence[Any], make: Callable[[], Columns]) -> Columns:
    """What `make` returns, from disk if it was made before from the same content.

    Args:
        key: all that decides the result; texts are hashed whole.
        make: returns tensors by name.
    """
    digest = hashlib.sha256(VERSION.encode())
    for part in key:
        texts = part if isinstance(part, list) else [str(part)]
        digest.update(f"\0{len(texts)}".encode())
        for text in texts:
            digest.update(b"\0" + text.encode())
    path = cache_folder() / "tokens" / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        return load_tensors(path)
    except (OSError, ValueError):
        columns = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(columns, path)
    except OSError as error:
        log.info("tokens are not cached: %s", error)
    return columns


def tokenize(
    tokenizer: Any, first: list[str], second: list[str] | None, max_length: int
) -> Columns:
    """Token ids of texts or of pairs of texts, one after another.

    Returns: `ids` int32 [all tokens], `segments` uint8 [all tokens], `starts` int64 [texts + 1].
    """
    key = (content_hash(tokenizer), first, second or [], max_length)
    return cached(key, lambda: _tokenize(tokenizer, first, second, max_length))


def _tokenize(
    tokenizer: Any, first: list[str], second: list[str] | None, max_length: int
) -> Columns:
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        encoded = tokenizer(
            first[part],
            second[part] if second is not None else None,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=True,
        )
        ids += encoded["input_ids"]
        segments += encoded["token_type_ids"]
    return flatten(ids, segments)


def flatten(ids: list[list[int]], segments: list[list[int]]) -> Columns:
    """Lists of tokens as the flat columns of `tokenize`."""
    lengths = torch.tensor([0, *map(len, ids)])
    return {
        "ids": torch.tensor([token for row in ids for token in row], dtype=torch.int32),
        "segments": torch.tensor([s for row in segments for s in row], dtype=torch.uint8),
        "starts": lengths.cumsum(0),
    }


class TextDataset(Dataset[dict[str, Any]]):
    """Texts and what is told of each; indexing with a list gives a batch as long as its longest.

    Args:
        tokens: as from `tokenize`.
        pad: the id that pads.
        columns: tensors [texts], given along under their names: labels, in whole numbers or, of a
            regression, float32.
    """

    def __init__(self, tokens: Columns, pad: int, **columns: Tensor) -> None:
        self.tokens, self.pad = tokens, pad
        self.columns = columns
        self._starts: list[int] = tokens["starts"].tolist()

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text."""
        return self.tokens["starts"].diff()

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        batch: dict[str, Any] = self.padded(indices)
        index = torch.as_tensor(indices)
        batch.update({name: column[index] for name, column in self.columns.items()})
        return batch

    def padded(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `token_type_ids`: int64 [b, longest]."""
        starts = self._starts
        rows = [slice(starts[index], starts[index + 1]) for index in indices]
        ids = [self.tokens["ids"][row].long() for row in rows]
        lengths = torch.tensor([len(row) for row in ids])
        batch = {"input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad)}
        positions = torch.arange(batch["input_ids"].shape[1])
        batch["attention_mask"] = (positions[None] < lengths[:, None]).long()
        segments = [self.tokens["segments"][row].long() for row in rows]
        batch["token_type_ids"] = pad_sequence(segments, batch_first=True)
        return batch
