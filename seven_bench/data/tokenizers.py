"""Tokenizers: a pretrained model's own, or one made from the data for models that have none."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.weights import TOKENIZER, locate

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # their ids are 0 to 3
FROM_DATA = "data"


def load_tokenizer(where: Any) -> Any:
    """The fast tokenizer in a folder, package or hub repository.

    Raises: ConfigError when there is none.
    """
    from transformers import AutoTokenizer

    folder = locate(where, TOKENIZER)
    try:
        return AutoTokenizer.from_pretrained(str(folder), use_fast=True, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: no tokenizer ({str(error).splitlines()[0]})") from error


def make_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A tokenizer of whole lower-case words: the `size` - 4 most frequent of `texts`.

    The same texts give the same tokenizer on any machine (ties by the alphabet).
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(re.findall(r"[^\W_]+|[^\w\s]|_", text.lower()))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: size - len(SPECIAL)]
    words = {word: index for index, word in enumerate([*SPECIAL, *ranked])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tokenizer_for(where: Any, texts: Iterable[str], size: int) -> Any:
    """`load_tokenizer`, or `make_tokenizer` where `where` says "data"."""
    return make_tokenizer(texts, size) if where == FROM_DATA else load_tokenizer(where)


def content_hash(tokenizer: Any) -> str:
    """A hash over all that decides what a fast tokenizer does."""
    whole = tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(whole.encode()).hexdigest()
