"""Targets that were once called otherwise: what runs of then say is still read, and keeps its id.

An exact table, and closed: what is not in it was never called anything else.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    f"baselines.{name}": f"seven_bench.baselines.{name}"
    for name in (
        "fisher.FisherScore", "grasp.GraspScore", "magnitude.MagnitudeScore",
        "movement.MovementScore", "obert.ObertScore", "platon.PlatonScore", "random.RandomScore",
        "rigl.RiglScore", "snip.SnipScore", "soft_movement.SoftMovementScore",
        "sparsegpt.SparseGptScore", "synflow.SynflowLinearizedScore", "taylor.TaylorScore",
        "wanda.WandaScore",
    )
}  # fmt: skip
_FORMER = {new: old for old, new in RENAMED.items()}


def as_first_named(node: dict[str, Any]) -> dict[str, Any]:
    """A target's node under the name that it had first: what ids and records know it by."""
    return {**node, "_target_": _FORMER.get(node["_target_"], node["_target_"])}
