"""What a module answers on the scored set, example by example: collected while it is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seven_bench.store.predictions import Predictions


class Answers:
    """Those of one evaluation, packed batch by batch: a few bytes an example.

    `fault` says why some could not be packed; then none are kept.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._batches: list[Predictions] = []
        self._scored: list[NDArray[np.bool_]] = []

    def add(self, answered: Predictions, scored: Tensor | None = None) -> None:
        """Takes a batch, in the order of evaluation.

        Args:
            scored: bool [b], the examples that the main metric is taken over; None: all of them.
        """
        chosen = np.ones(len(answered), bool) if scored is None else scored.cpu().numpy()
        columns = {name: array[chosen] for name, array in answered.columns.items()}
        self._batches.append(Predictions(answered.kind, answered.items, columns, answered.classes))
        self._scored.append(chosen)

    def in_order(self, batches: Iterable[Sequence[int]], items: str) -> Predictions:
        """All answers in the data's own order.

        Args:
            batches: the indices that each batch of the evaluation was made of.
            items: names the examples; see `seven_bench.store.predictions`.

        Raises: ValueError where batches are missing, or there is a fault.
        """
        if self.fault is not None:
            raise ValueError(self.fault)
        indices = np.concatenate([np.asarray(batch, np.int64) for batch in batches])
        scored = np.concatenate(self._scored)
        if len(indices) != len(scored):
            raise ValueError(f"{len(scored)} of {len(indices)} examples were answered")
        places = np.argsort(indices[scored])
        first = self._batches[0]
        columns = {
            name: np.concatenate([batch.columns[name] for batch in self._batches])[places]
            for name in first.columns
        }
        return Predictions(first.kind, items, columns, first.classes)
