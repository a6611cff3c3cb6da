"""A benchmark suite for pruning Transformers, built around SEVEN (arXiv 2403.12688).

Names are imported when first used, so that the command line starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seven_bench.python.keep_pruned import Keeper as Keeper
    from seven_bench.python.keep_pruned import keep_pruned as keep_pruned
    from seven_bench.python.load_run import Run as Run
    from seven_bench.python.load_run import load_run as load_run
    from seven_bench.python.prune import prune as prune
    from seven_bench.python.summary import Summary as Summary

__version__ = "0.1.0"
_HOMES = {
    "Keeper": "keep_pruned", "keep_pruned": "keep_pruned",
    "Run": "load_run", "load_run": "load_run",
    "Summary": "summary", "prune": "prune",
}  # fmt: skip
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"seven_bench.python.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
