"""Texts with a transformers model: classification, regression, and answers as spans."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
)
from torchmetrics.functional.text import squad
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef
from torchmetrics.text import SQuAD

from seven_bench.data.squad import answer_spans, answer_texts
from seven_bench.store.predictions import Predictions
from seven_bench.training.finetune import Recipe
from seven_bench.training.module import Batch, TaskModule

PADDING = -1e4  # a logit that no softmax notices, and finite: differences stay numbers


def inputs(model: nn.Module, batch: Batch) -> Batch:
    """What of a batch the model takes: segments only where it tells two apart (BERT does)."""
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return {name: batch[name] for name in names}


class Matthews(MulticlassConfusionMatrix):
    """Matthews' correlation coefficient, in [-1, 1], in float64; 0 where all answers, or all
    labels, are one class, as GLUE's own evaluation has it: torchmetrics' gives CoLA's majority
    class 0.026.
    """

    def compute(self) -> Tensor:
        counts = super().compute().double()
        rows, columns, n = counts.sum(1), counts.sum(0), counts.sum()
        covariance = n * counts.trace() - rows @ columns
        spread = (n * n - rows @ rows) * (n * n - columns @ columns)
        return covariance / spread.sqrt() if spread > 0 else torch.zeros_like(n)


def metric(name: str, classes: int) -> Metric:
    """A GLUE metric by its name, over predicted classes or values [b].

    Raises: ValueError when there is none of that name.
    """
    match name:
        case "accuracy":
            return MulticlassAccuracy(classes, average="micro")
        case "f1":
            return BinaryF1Score()  # of class 1, as GLUE has it
        case "matthews":
            return Matthews(classes)
        case "pearson":
            return PearsonCorrCoef()
        case "spearman":
            with warnings.catch_warnings():  # that it keeps all predictions, as it must
                warnings.simplefilter("ignore", UserWarning)
                return SpearmanCorrCoef()
        case _:
            raise ValueError(
                f"metrics={name}: allowed are accuracy, f1, matthews, pearson, spearman"
            )


class SquadScores(SQuAD):
    """Exact match and F1 of SQuAD's official evaluation, as fractions.

    Of two texts of which nothing is left (articles, punctuation) F1 is 1, as in v2.0's script; that
    of v1.1 gives 0.
    """

    def compute(self) -> dict[str, Tensor]:
        return {name: value / 100 for name, value in super().compute().items()}


class TextModule(TaskModule):
    """Cross-entropy over classes, or the squared error of a single output.

    Args:
        classes: outputs of the model; 1 is a regression.
        metrics: names that `metric` knows.
        parts: names of the parts of the scored set, when each is measured by itself; the first
            has the plain names, those of the others end in theirs.
    """

    varying = True  # as long as the longest text

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        classes: int,
        metrics: Sequence[str],
        parts: Sequence[str] = (),
    ) -> None:
        collection = MetricCollection({name: metric(name, classes) for name in metrics})
        super().__init__(model, recipe, collection)
        self.classes = classes
        for name in parts[1:]:
            self.add_part(collection.clone(prefix="test/", postfix=f"_{name}"))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(**inputs(model, batch)).logits
        return logits.float()

    def objective(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.classes == 1:
            return F.mse_loss(logits.squeeze(-1), batch["labels"])
        return F.cross_entropy(logits, batch["labels"])

    def predictions(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        predicted = logits.squeeze(-1) if self.classes == 1 else logits.argmax(-1)
        return predicted, batch["labels"]

    def answered(self, logits: Tensor, predictions: Any, targets: Any) -> Predictions:
        if self.classes > 1:
            return super().answered(logits, predictions, targets)
        given = predictions.detach().cpu().numpy()
        return Predictions.of_scores(targets.cpu().numpy(), given, "")


class SpanModule(TaskModule):
    """Extractive question answering: start and end of the answer, exact match and F1.

    Args:
        longest_answer: in tokens.
    """

    varying = True  # as long as the longest text

    def __init__(self, model: nn.Module, recipe: Recipe, longest_answer: int) -> None:
        super().__init__(model, recipe, MetricCollection({"squad": SquadScores()}))
        self.longest_answer = longest_answer

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Start and end, [windows, 2, tokens]; padding has next to no probability."""
        answer = model(**inputs(model, batch))
        both = torch.stack((answer.start_logits, answer.end_logits), 1).float()
        return both.masked_fill(batch["attention_mask"][:, None] == 0, PADDING)

    def objective(self, logits: Tensor, batch: Batch) -> Tensor:
        start = F.cross_entropy(logits[:, 0], batch["start_positions"])
        return (start + F.cross_entropy(logits[:, 1], batch["end_positions"])) / 2

    def predictions(self, logits: Tensor, batch: Batch) -> tuple[Any, Any]:
        spans = answer_spans(batch, logits, self.longest_answer)
        texts = answer_texts(batch, spans)
        predicted = [
            {"id": name, "prediction_text": text, "span": span}
            for name, text, span in zip(batch["id"], texts, spans, strict=True)
        ]
        answers = zip(batch["id"], batch["answers"], strict=True)
        return predicted, [{"id": name, "answers": answer} for name, answer in answers]

    def answered(self, logits: Tensor, predictions: Any, targets: Any) -> Predictions:
        start, end = zip(*(predicted["span"] for predicted in predictions), strict=True)
        scores = [squad([p], [t]) for p, t in zip(predictions, targets, strict=True)]
        exact, f1 = (
            [float(score[name]) / 100 for score in scores] for name in ("exact_match", "f1")
        )
        return Predictions.of_spans(start, end, exact, f1, "")
