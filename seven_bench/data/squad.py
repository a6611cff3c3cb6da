"""SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250): the answer is a span of a paragraph.

A paragraph that is longer than the model reads is cut into windows that overlap by `stride`
tokens. Training goes over windows; evaluation over questions, all windows of a question in one
batch, and the answer is the best span in any of them, as text of the paragraph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from seven_bench.data.rows import check_not_empty, load_rows, read_column, read_texts
from seven_bench.data.samplers import MOST_HELD_OUT
from seven_bench.data.task_data import Splits
from seven_bench.data.text import TextData
from seven_bench.data.tokenizers import content_hash
from seven_bench.data.tokens import CHUNK, Columns, TextDataset, cached, flatten
from seven_bench.errors import ConfigError


class SquadData(TextData):
    """Validation is held out of train by whole articles: about a tenth of the questions.

    Options besides those of text: `stride` in tokens, `train_examples` (questions).
    """

    def load(self) -> Splits:
        rows = self.shortened(load_rows(self.files, self.hub, ("train", "validation")))
        for split, part in rows.items():
            _check(part, self.place(split))
        train, held_out = self._split(rows["train"])
        parts = {"train": train, "validation": held_out, "test": rows["validation"]}
        texts = dict.fromkeys([*train["question"], *train["context"]])  # a paragraph counts once
        self.tokenizer = self.make_tokenizer(texts)
        windows = {name: self._windows(part) for name, part in parts.items()}
        pad = self.tokenizer.pad_token_id
        splits: Splits = {"train": train_windows(windows["train"], pad)}
        for name in ("validation", "test"):
            splits[name] = Questions(windows[name], parts[name], pad)
        return splits

    def _split(self, rows: Any) -> tuple[Any, Any]:
        titles = list(rows["title"])
        articles = list(dict.fromkeys(titles))
        order = torch.randperm(len(articles), generator=self._generator())
        wanted, held_out, count = min(len(titles) // 10, MOST_HELD_OUT), set(), 0
        for index in order.tolist():
            if count >= wanted:
                break
            held_out.add(articles[index])
            count += titles.count(articles[index])
        out = [index for index, title in enumerate(titles) if title in held_out]
        rest = [index for index, title in enumerate(titles) if title not in held_out]
        limit = self.options.get("train_examples")
        if limit is not None and not 0 < limit <= len(rest):
            raise ConfigError(f"task.train_examples={limit}: allowed are 1 to {len(rest)}")
        shuffled = torch.randperm(len(rest), generator=self._generator()).tolist()
        return rows.select([rest[index] for index in shuffled[:limit]]), rows.select(out)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.split_seed)

    def _windows(self, rows: Any) -> Columns:
        questions = [question.strip() for question in rows["question"]]
        contexts, answers = list(rows["context"]), list(rows["answers"])
        size, stride = self.options["max_length"], self.options["stride"]
        spans = [f"{a['answer_start'][0]}+{len(a['text'][0])}" for a in answers]
        key = ("squad", content_hash(self.tokenizer), questions, contexts, spans, size, stride)
        return cached(
            key, lambda: make_windows(self.tokenizer, questions, contexts, answers, size, stride)
        )

    def majority(self, metric: str = "accuracy") -> float | None:
        return None


def _check(rows: Any, place: str) -> None:
    """Raises ConfigError, with the row, where it is no question that its paragraph answers."""
    texts = {name: read_texts(rows, name, place) for name in ("id", "title", "question", "context")}
    for name in ("question", "context"):
        check_not_empty({name: texts[name]}, place)
    answers = read_column(
        rows, "answers", place, _is_answered, "one or more of text, each with its answer_start"
    )
    for row, (answer, context) in enumerate(zip(answers, texts["context"], strict=True)):
        if answer["answer_start"][0] + len(answer["text"][0]) > len(context):
            raise ConfigError(
                f"{place}: row {row} has answers.answer_start={answer['answer_start'][0]}: allowed "
                f"is a place in its context of {len(context)} characters"
            )


def _is_answered(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    texts, starts = value.get("text"), value.get("answer_start")
    if not (isinstance(texts, list) and isinstance(starts, list)) or len(texts) != len(starts):
        return False
    known = all(isinstance(text, str) for text in texts)
    return bool(texts) and known and all(type(start) is int and start >= 0 for start in starts)


def make_windows(
    tokenizer: Any,
    questions: list[str],
    contexts: list[str],
    answers: list[dict[str, Any]],
    max_length: int,
    stride: int,
) -> Columns:
    """Windows of question and paragraph.

    Args:
        answers: each `text` and `answer_start` lists; the first is what is trained on.
        max_length: tokens a window, question and special tokens included.
        stride: tokens of the paragraph that two windows share.

    Returns: the columns of `tokens.tokenize` and, per window, `question` (its index), `start` and
        `end` (tokens of the answer; 0, the first token, where the window does not hold all of it);
        per token, `from` and `to`: characters of the paragraph, or -1 outside of it.
    """
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    place: dict[str, list[Tensor]] = {"from": [], "to": []}
    question, starts, ends = [], [], []
    for first in range(0, len(questions), CHUNK):
        encoded = tokenizer(
            questions[first : first + CHUNK],
            contexts[first : first + CHUNK],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        ids += encoded["input_ids"]
        segments += encoded["token_type_ids"]
        for window, local in enumerate(encoded["overflow_to_sample_mapping"]):
            inside = torch.tensor([part == 1 for part in encoded.sequence_ids(window)])
            offsets = torch.tensor(encoded["offset_mapping"][window], dtype=torch.int32)
            offsets[~inside] = -1
            answer = answers[first + local]
            begin = answer["answer_start"][0]
            start, end = _tokens_of(offsets, begin, begin + len(answer["text"][0]))
            question.append(first + local)
            starts.append(start)
            ends.append(end)
            place["from"].append(offsets[:, 0])
            place["to"].append(offsets[:, 1])
    return {
        **flatten(ids, segments),
        **{name: torch.cat(parts) for name, parts in place.items()},
        "question": torch.tensor(question),
        "start": torch.tensor(starts),
        "end": torch.tensor(ends),
    }


def _tokens_of(offsets: Tensor, begin: int, stop: int) -> tuple[int, int]:
    """First and last token over the characters [begin, stop); (0, 0) where not all are covered."""
    inside = offsets[:, 0] >= 0
    if not bool(inside.any()):
        return 0, 0
    covered = offsets[inside]
    if int(covered[0, 0]) > begin or int(covered[-1, 1]) < stop:
        return 0, 0
    overlaps = inside & (offsets[:, 0] < stop) & (offsets[:, 1] > begin)
    positions = overlaps.nonzero().reshape(-1)
    return (int(positions[0]), int(positions[-1])) if len(positions) else (0, 0)


def train_windows(windows: Columns, pad: int) -> TextDataset:
    """Windows as examples, with `start_positions` and `end_positions`, tokens of the answer."""
    places = {"start_positions": windows["start"], "end_positions": windows["end"]}
    return TextDataset(windows, pad, **places)


class Questions(Dataset[dict[str, Any]]):
    """Indexing with questions gives all their windows in one batch.

    Besides what training has a batch holds `from` and `to`, int64 [windows, tokens] (-1 outside of
    the paragraph), `question` [windows], which of the batch's questions a window belongs to, and of
    each question `id`, `context` and `answers`, as lists.
    """

    def __init__(self, windows: Columns, rows: Any, pad: int) -> None:
        self.windows = train_windows(windows, pad)
        self.tokens = windows
        self.rows = {name: list(rows[name]) for name in ("id", "context", "answers")}
        self.first = torch.searchsorted(
            windows["question"], torch.arange(len(self.rows["id"]) + 1)
        ).tolist()
        self._starts: list[int] = windows["starts"].tolist()

    def __len__(self) -> int:
        return len(self.rows["id"])

    @property
    def lengths(self) -> Tensor:
        """Tokens of each question's longest window."""
        of_windows = self.windows.lengths
        longest = torch.zeros(len(self), dtype=torch.int64)
        return longest.scatter_reduce(0, self.tokens["question"], of_windows, "amax")

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        chosen = [range(self.first[index], self.first[index + 1]) for index in indices]
        windows = [window for part in chosen for window in part]
        batch = self.windows[windows]
        for name in ("from", "to"):
            rows = [
                self.tokens[name][self._starts[window] : self._starts[window + 1]].long()
                for window in windows
            ]
            batch[name] = pad_sequence(rows, batch_first=True, padding_value=-1)
        counts = torch.tensor([len(part) for part in chosen])
        batch["question"] = torch.arange(len(indices)).repeat_interleave(counts)
        for name, column in self.rows.items():
            batch[name] = [column[index] for index in indices]
        return batch


def best_spans(
    start: Tensor, end: Tensor, allowed: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The span of the highest start plus end logit in each window.

    Args:
        start, end: logits [windows, tokens].
        allowed: bool [windows, tokens], the tokens of the paragraph.
        longest: tokens of a span at most.

    Returns: score, first and last token, each [windows]; the score is -inf where no token is
        allowed. Of equal spans the first wins, then the shortest.
    """
    start = start.masked_fill(~allowed, -torch.inf)
    end = end.masked_fill(~allowed, -torch.inf)
    beyond = torch.full((len(end), longest - 1), -torch.inf, device=end.device)
    ends = torch.cat((end, beyond), 1).unfold(1, longest, 1)  # [windows, tokens, span - 1]
    score, place = (start[:, :, None] + ends).flatten(1).max(1)
    first = place // longest
    return score, first, first + place % longest


def answer_spans(batch: dict[str, Any], logits: Tensor, longest: int) -> list[tuple[int, int]]:
    """The answer to each question of a batch of `Questions`: its first character in the paragraph
    and the one after its last; (-1, -1) where no window holds any of the paragraph.

    Args:
        logits: start and end [windows, 2, tokens].
        longest: tokens of an answer at most.
    """
    scores, firsts, lasts = best_spans(logits[:, 0], logits[:, 1], batch["from"] >= 0, longest)
    best: dict[int, tuple[float, int]] = {}
    for window, question in enumerate(batch["question"].tolist()):
        score = float(scores[window])
        if question not in best or score > best[question][0]:
            best[question] = (score, window)
    spans = []
    for question in range(len(batch["context"])):
        score, window = best[question]
        begin = int(batch["from"][window, firsts[window]])
        stop = int(batch["to"][window, lasts[window]])
        spans.append((begin, stop) if score > -torch.inf else (-1, -1))
    return spans


def answer_texts(batch: dict[str, Any], spans: Sequence[tuple[int, int]]) -> list[str]:
    """The text of each span of `answer_spans`; that of none is empty."""
    pairs = zip(batch["context"], spans, strict=True)
    return [context[begin:stop] if begin >= 0 else "" for context, (begin, stop) in pairs]
