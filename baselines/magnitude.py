"""Magnitude pruning. Han et al. 2015, arXiv 1506.02626."""

from __future__ import annotations

from seven_bench.pruning import Params, Score


class MagnitudeScore(Score):
    """|w|."""

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: p.detach().float().abs() for name, p in params.items()}
