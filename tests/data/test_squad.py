"""SQuAD: windows, spans back to text, and the official scores on cases kept by hand."""

import collections
import json
import re
import string
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from seven_bench.data.squad import SquadData, answer_spans, answer_texts, best_spans, make_windows
from seven_bench.data.tokenizers import make_tokenizer
from seven_bench.training.text import SquadScores
from tests.data.synthetic import write_squad

CASES = json.loads((Path(__file__).parent / "squad_cases.json").read_text())
CONTEXT = "the cat sat on the mat and the dog slept by the door"


@pytest.fixture
def data(tmp_path):
    write_squad(tmp_path)
    files = {split: tmp_path / "squad" / f"{split}.parquet" for split in ("train", "validation")}
    data = SquadData(
        seed=0,
        batch_size=8,
        files=files,
        tokenizer="data",
        vocabulary=200,
        max_length=40,
        stride=10,
    )
    data.setup()
    return data


def windows(max_length, stride, answer="dog"):
    tokenizer = make_tokenizer([CONTEXT, "who slept ?"], 50)
    answers = [{"text": [answer], "answer_start": [CONTEXT.index(answer)]}]
    return tokenizer, make_windows(
        tokenizer, ["who slept ?"], [CONTEXT], answers, max_length, stride
    )


def test_a_short_paragraph_is_one_window():
    tokenizer, found = windows(40, 5)
    assert found["question"].tolist() == [0]
    start, end = int(found["start"]), int(found["end"])
    assert tokenizer.convert_ids_to_tokens(found["ids"][start : end + 1].tolist()) == ["dog"]


def test_windows_overlap_by_the_stride_and_cover_the_paragraph():
    # [CLS] 3 words [SEP] 5 words [SEP]: five of 13 words a window, three of them new
    _, found = windows(11, 2)
    places = [
        found["from"][a:b] for a, b in zip(found["starts"], found["starts"][1:], strict=False)
    ]
    spans = [[int(c) for c in place if c >= 0] for place in places]
    assert [len(span) for span in spans] == [5, 5, 5, 4]
    assert all(left[-2:] == right[:2] for left, right in pairwise(spans))
    assert sorted({c for span in spans for c in span}) == [
        m.start() for m in re.finditer(r"\w+", CONTEXT)
    ]


def test_an_answer_is_looked_for_in_the_windows_that_hold_all_of_it():
    _, found = windows(11, 2, answer="dog slept")
    held = [
        CONTEXT[int(found["from"][first + a]) : int(found["to"][first + b])]
        for first, a, b in zip(found["starts"], found["start"], found["end"], strict=False)
    ]
    # words 6 to 10 and 9 to 12: "dog slept" are words 8 and 9
    assert found["start"].gt(0).tolist() == [False, False, True, False]
    assert held[2] == "dog slept"


def test_the_best_span_is_found_as_by_trying_all():
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 6, 15, generator=generator)
    allowed = torch.rand(6, 15, generator=generator) > 0.3
    allowed[5] = False
    scores, firsts, lasts = best_spans(start, end, allowed, longest=4)
    for window in range(5):
        tried = {
            (i, j): float(start[window, i] + end[window, j])
            for i in range(15)
            for j in range(i, min(15, i + 4))
            if allowed[window, i] and allowed[window, j]
        }
        best = max(tried, key=tried.get)
        assert (int(firsts[window]), int(lasts[window])) == best
        assert float(scores[window]) == tried[best]
    assert scores[5] == -torch.inf


def test_validation_is_held_out_by_articles(data):
    train = set(data.splits["validation"].rows["context"])
    assert data.size("validation") == 4 and data.size("test") == 12
    windows = data.splits["train"].tokens
    assert len(windows["question"].unique()) == 36
    assert len(train) == 4


def test_all_windows_of_a_question_are_in_its_batch(data):
    questions = data.splits["test"]
    batch = questions[[5, 0, 7]]
    assert batch["question"].unique().tolist() == [0, 1, 2]
    counts = [questions.first[i + 1] - questions.first[i] for i in (5, 0, 7)]
    assert batch["question"].bincount().tolist() == counts
    assert max(questions.first[i + 1] - questions.first[i] for i in range(12)) > 1
    assert batch["from"].shape == batch["input_ids"].shape == batch["to"].shape


def test_a_model_that_knows_the_answers_scores_full_marks(data):
    scores = SquadScores()
    for batch in data.test_dataloader():
        n, length = batch["input_ids"].shape
        logits = torch.zeros(n, 2, length)
        found = batch["start_positions"] > 0
        rows = torch.arange(n)[found]
        logits[rows, 0, batch["start_positions"][found]] = 9
        logits[rows, 1, batch["end_positions"][found]] = 9
        texts = answer_texts(batch, answer_spans(batch, logits, longest=30))
        scores.update(*as_torchmetrics(zip(texts, batch["answers"], strict=True)))
    assert {name: float(value) for name, value in scores.compute().items()} == {
        "exact_match": 1,
        "f1": 1,
    }


# The official evaluation of SQuAD v1.1, by its rules: lower case, no punctuation, no articles, one
# blank between words; the best over the reference answers; the mean over questions.


def normalized(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official(prediction, answers):
    exact, f1 = 0.0, 0.0
    for answer in answers:
        exact = max(exact, float(normalized(prediction) == normalized(answer)))
        given, wanted = normalized(prediction).split(), normalized(answer).split()
        same = sum((collections.Counter(given) & collections.Counter(wanted)).values())
        if same:
            precision, recall = same / len(given), same / len(wanted)
            f1 = max(f1, 2 * precision * recall / (precision + recall))
    return exact, f1


def as_torchmetrics(pairs):
    pairs = list(pairs)
    predictions = [{"id": str(i), "prediction_text": text} for i, (text, _) in enumerate(pairs)]
    answers = [
        a if isinstance(a, dict) else {"text": a, "answer_start": [0] * len(a)} for _, a in pairs
    ]
    return predictions, [{"id": str(i), "answers": a} for i, a in enumerate(answers)]


def test_there_are_fifty_cases_of_several_answers():
    assert len(CASES) == 50
    assert all(len(case["answers"]) > 1 for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prediction"][:20] or "nothing")
def test_cases_score_what_is_kept_for_them(case):
    kept = (case["exact_match"], pytest.approx(case["f1"], abs=1e-6))
    assert official(case["prediction"], case["answers"]) == kept
    scores = SquadScores()
    scores.update(*as_torchmetrics([(case["prediction"], case["answers"])]))
    found = scores.compute()
    assert (float(found["exact_match"]), float(found["f1"])) == kept


def test_the_whole_set_is_the_mean_over_cases():
    scores = SquadScores()
    half = len(CASES) // 3
    for part in (CASES[:half], CASES[half:]):
        scores.update(*as_torchmetrics((case["prediction"], case["answers"]) for case in part))
    found = scores.compute()
    assert float(found["exact_match"]) == pytest.approx(sum(c["exact_match"] for c in CASES) / 50)
    assert float(found["f1"]) == pytest.approx(sum(c["f1"] for c in CASES) / 50)
