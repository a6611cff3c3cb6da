"""The doors: `seven-bench VERB ...` is a verb of this folder, anything else a Hydra run."""

from __future__ import annotations

import sys
from importlib import import_module

VERBS = ("list", "report", "compare", "collect", "sentinels", "export", "dashboard")


def main() -> int:
    """Entry of `seven-bench` and `python -m seven_bench`; returns the exit code."""
    verb, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if verb in VERBS:
        code: int = import_module(f"seven_bench.commands.{verb}").main(arguments)
        return code
    from seven_bench.commands.run import main as run

    run()
    return 0
