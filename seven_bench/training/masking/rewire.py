"""Removed weights are zero after every step; an update may bring some back, from zero.

In a step this is `hard`, the moments of what comes back cleared as well. What differs is who
competes at an update, and that is the pruner's: every weight, not those that live.
"""

from __future__ import annotations

from seven_bench.training.masking.hard import Hard


class Rewire(Hard):
    """The sparse training of RigL (Evci et al. 2020, arXiv 1911.11134)."""
