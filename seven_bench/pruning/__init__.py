"""The pruning engine: scores, schedules, distributions, patterns and masks. It needs torch alone.

Names are imported when first used, so that what needs no torch (schedules) does not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seven_bench.pruning.distributions import DISTRIBUTIONS as DISTRIBUTIONS
    from seven_bench.pruning.distributions import Counts as Counts
    from seven_bench.pruning.distributions import allocate as allocate
    from seven_bench.pruning.distributions import kept_count as kept_count
    from seven_bench.pruning.masks import MaskSet as MaskSet
    from seven_bench.pruning.masks import make_masks as make_masks
    from seven_bench.pruning.masks import prune as prune
    from seven_bench.pruning.masks import reachable_count as reachable_count
    from seven_bench.pruning.patterns import PATTERNS as PATTERNS
    from seven_bench.pruning.prunable import Params as Params
    from seven_bench.pruning.prunable import denominators as denominators
    from seven_bench.pruning.prunable import layer_counts as layer_counts
    from seven_bench.pruning.prunable import prunable_parameters as prunable_parameters
    from seven_bench.pruning.schedules import Constant as Constant
    from seven_bench.pruning.schedules import Cubic as Cubic
    from seven_bench.pruning.schedules import CubicFrom as CubicFrom
    from seven_bench.pruning.schedules import CubicReleased as CubicReleased
    from seven_bench.pruning.schedules import Exponential as Exponential
    from seven_bench.pruning.schedules import Linear as Linear
    from seven_bench.pruning.schedules import OneShot as OneShot
    from seven_bench.pruning.schedules import Plan as Plan
    from seven_bench.pruning.schedules import Schedule as Schedule
    from seven_bench.pruning.scores import Linearisation as Linearisation
    from seven_bench.pruning.scores import Observation as Observation
    from seven_bench.pruning.scores import Score as Score
    from seven_bench.pruning.scores import zeros as zeros
    from seven_bench.pruning.seven import SevenScore as SevenScore

_HOMES = {
    "distributions": ("DISTRIBUTIONS", "Counts", "allocate", "kept_count"),
    "masks": ("MaskSet", "make_masks", "prune", "reachable_count"),
    "patterns": ("PATTERNS",),
    "prunable": ("Params", "denominators", "layer_counts", "prunable_parameters"),
    "schedules": (
        "Constant", "Cubic", "CubicFrom", "CubicReleased", "Exponential", "Linear", "OneShot",
        "Plan", "Schedule",
    ),
    "scores": ("Linearisation", "Observation", "Score", "zeros"),
    "seven": ("SevenScore",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
