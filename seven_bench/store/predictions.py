"""What a run predicted for each scored example, in few bytes, read without torch.

Format `seven_bench.predictions/1`: a safetensors file with 1-D arrays, one entry an example, in the
data's own order. Its metadata hold `format`, `kind`, `items` (which examples in which order: runs
with the same one are paired example by example), `classes` (of kind "class") and `checksum`.

    kind    arrays
    class   label, predicted       uint8 up to 256 classes, else uint16
            confidence, runner_up  uint16, the largest and the second probability in 65,535ths
            brier                  uint16, the squared distance to the label, in 65,535ths of 2
    score   label, predicted       float32
    span    start, end             int32, characters [start, end) of the context; -1: no answer
            exact                  uint8, 1 where it is an accepted answer
            f1                     uint16, in 65,535ths

So an example of a classification takes 8 bytes, or 10 with more than 256 classes. The margin of a
class is confidence - runner_up; calibration needs confidence and brier.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seven_bench.store.tensors import read_tensors, write_arrays

FORMAT = "seven_bench.predictions/1"
STEPS = 65_535  # of a fraction in 16 bits: rounding is off by 0.000008 at most
MOST_CLASSES = 2**16
LONGEST = 1000  # characters that say which examples they are
_BRIER = 2.0  # the largest squared distance of a distribution to a label

_KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "class": {
        **dict.fromkeys(("label", "predicted"), ("uint8", "uint16")),
        **dict.fromkeys(("confidence", "runner_up", "brier"), ("uint16",)),
    },
    "score": dict.fromkeys(("label", "predicted"), ("float32",)),
    "span": {
        **dict.fromkeys(("start", "end"), ("int32",)),
        "exact": ("uint8",),
        "f1": ("uint16",),
    },
}


@dataclass(frozen=True)
class Predictions:
    """The arrays of one run, as they are stored; `classes` is 0 where there are none."""

    kind: str
    items: str
    columns: Mapping[str, NDArray[Any]]
    classes: int = 0

    @classmethod
    def of_classes(cls, labels: ArrayLike, probabilities: ArrayLike, items: str) -> Predictions:
        """Of a classification: labels, shape (n,), and probabilities, shape (n, classes).

        Raises: ValueError where they are no such arrays: shapes, labels, or rows that are not
        finite or do not sum to 1.
        """
        truth, given = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
        if given.ndim != 2 or truth.shape != given.shape[:1] or given.shape[1] < 2:
            raise ValueError(f"labels {truth.shape} and probabilities {given.shape} do not fit")
        classes = given.shape[1]
        if classes > MOST_CLASSES:
            raise ValueError(f"{classes} classes; at most {MOST_CLASSES} can be kept")
        if len(truth) and not (truth.min() >= 0 and truth.max() < classes):
            raise ValueError(f"labels from {truth.min()} to {truth.max()} of {classes} classes")
        if not (np.isfinite(given).all() and np.allclose(given.sum(axis=1), 1, atol=1e-3)):
            raise ValueError("probabilities that are not finite or do not sum to 1")
        kind = np.uint8 if classes <= 256 else np.uint16
        predicted = given.argmax(axis=1)
        ordered = np.partition(given, classes - 2, axis=1)
        at_label = given[np.arange(len(truth)), truth.astype(np.int64)]
        brier = (given**2).sum(axis=1) - 2 * at_label + 1
        columns: dict[str, NDArray[Any]] = {
            "label": truth.astype(kind),
            "predicted": predicted.astype(kind),
            "confidence": _pack(ordered[:, -1]),
            "runner_up": _pack(ordered[:, -2]),
            "brier": _pack(brier / _BRIER),
        }
        return cls("class", items, columns, classes)

    @classmethod
    def of_scores(cls, labels: ArrayLike, scores: ArrayLike, items: str) -> Predictions:
        """Of a regression, both of shape (n,). Raises ValueError where they do not fit."""
        truth, given = np.asarray(labels, np.float32), np.asarray(scores, np.float32)
        if truth.ndim != 1 or truth.shape != given.shape:
            raise ValueError(f"labels {truth.shape} and scores {given.shape} do not fit")
        return cls("score", items, {"label": truth, "predicted": given})

    @classmethod
    def of_spans(
        cls, start: ArrayLike, end: ArrayLike, exact: ArrayLike, f1: ArrayLike, items: str
    ) -> Predictions:
        """Of answers in a context, all of shape (n,). Raises ValueError where they do not fit."""
        columns: dict[str, NDArray[Any]] = {
            "start": np.asarray(start, np.int32),
            "end": np.asarray(end, np.int32),
            "exact": np.asarray(exact, np.uint8),
            "f1": _pack(np.asarray(f1, np.float64)),
        }
        if len({array.shape for array in columns.values()}) != 1 or columns["start"].ndim != 1:
            raise ValueError("start, end, exact and f1 do not fit")
        return cls("span", items, columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where a class or a span is right. Raises ValueError for scores, which are never."""
        if self.kind == "class":
            return np.asarray(self.columns["label"] == self.columns["predicted"])
        if self.kind == "span":
            return self.columns["exact"].astype(bool)
        raise ValueError("a score is neither right nor wrong")

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of the predicted class."""
        return np.asarray(self.columns["confidence"] / STEPS)

    @property
    def margin(self) -> NDArray[np.float64]:
        """By how much the predicted class leads, in probability."""
        lead = self.columns["confidence"].astype(np.int32) - self.columns["runner_up"]
        return np.asarray(lead / STEPS)

    @property
    def brier(self) -> NDArray[np.float64]:
        """The squared distance of the probabilities to the label, from 0 to 2."""
        return np.asarray(self.columns["brier"] * (_BRIER / STEPS))

    @property
    def f1(self) -> NDArray[np.float64]:
        """The F1 of each span."""
        return np.asarray(self.columns["f1"] / STEPS)

    def checksum(self) -> str:
        """SHA-256 of all that is stored."""
        digest = hashlib.sha256(f"{self.kind} {self.items} {self.classes}".encode())
        for name, array in sorted(self.columns.items()):
            digest.update(f" {name} {array.dtype.str} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _pack(fractions: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.rint(np.clip(fractions, 0, 1) * STEPS).astype(np.uint16)


def write_predictions(predictions: Predictions, path: str | os.PathLike[str]) -> None:
    """Writes a file, atomically; the same predictions make the same bytes. Raises: OSError."""
    metadata = {
        "format": FORMAT,
        "kind": predictions.kind,
        "items": predictions.items,
        "classes": str(predictions.classes),
        "checksum": predictions.checksum(),
    }
    arrays = {n: np.ascontiguousarray(array) for n, array in predictions.columns.items()}
    write_arrays(arrays, path, metadata)


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file, without torch.

    Raises: ValueError with the path where it is cut, altered or of another format.
    FileNotFoundError.
    """
    with read_tensors(path, FORMAT, "np") as (columns, metadata):
        kinds = _KINDS.get(metadata.get("kind", ""))
        if kinds is None or kinds.keys() != columns.keys():
            raise ValueError("it holds no predictions of a kind that is known")
        if len({array.shape for array in columns.values()}) != 1:
            raise ValueError("its arrays are of different lengths")
        for name, array in columns.items():
            if array.dtype.name not in kinds[name] or array.ndim != 1:
                raise ValueError(f"{name} is {array.dtype.name} {array.shape}")
        classes = metadata.get("classes", "")
        if not classes.isdecimal() or int(classes) > MOST_CLASSES:
            raise ValueError(f"its number of classes is {classes[:20]!r}")
        found = Predictions(metadata["kind"], metadata.get("items", ""), columns, int(classes))
        if found.checksum() != metadata.get("checksum"):
            raise ValueError("the predictions do not fit their checksum")
        if odd := _odd(found):
            raise ValueError(odd)
        return found


def _odd(found: Predictions) -> str | None:
    """What no run's predictions hold, whoever has made their checksum."""
    columns = found.columns
    if len(found.items) > LONGEST or not found.items.isprintable():
        return "its name of the items is none that can be printed"
    if found.kind == "class" and len(found):
        highest = max(int(columns[name].max()) for name in ("label", "predicted"))
        if highest >= found.classes:
            return f"it has a class {highest} of {found.classes}"
        if bool((columns["runner_up"] > columns["confidence"]).any()):
            return "a second probability is larger than the first"
    if found.kind == "score" and not all(np.isfinite(array).all() for array in columns.values()):
        return "a score is not finite"
    if found.kind == "span" and bool((columns["exact"] > 1).any()):
        return "exact is neither 0 nor 1"
    return None
