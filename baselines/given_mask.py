"""Masks that are given, as a score. Tickets that are moved: Chen et al. 2020, arXiv 2007.12223."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score


class GivenMaskScore(Score):
    """1 where the given mask keeps a weight and 0 where it does not: of as many weights as it keeps
    the best are its own, bit for bit.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"given_masks"})
    state: ClassVar[tuple[str, ...]] = ("kept",)
    memory = 4 + 1 + 1

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.kept: Params = {}

    def observe(self, seen: Observation) -> None:
        self.kept = {name: mask.float() for name, mask in seen.given_masks.items()}

    def scores(self, params: Params, masks: Params) -> Params:
        return self.kept
