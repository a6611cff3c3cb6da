"""The saved W&B dashboard of a suite: `seven-bench dashboard --project P`."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from seven_bench.errors import ConfigError, install_line

EPILOG = """\
Saving needs a login. Figures are those of runs that W&B has: sync offline ones first.

examples:
  seven-bench dashboard --entity me --project seven_bench --suite digits_demo
  seven-bench dashboard --dry-run dashboard.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("--entity", default="", help="W&B user or team (default: your own)")
    parser.add_argument("--project", default="seven_bench", help="default: seven_bench")
    parser.add_argument("--suite", help="only the runs of this suite (W&B group)")
    parser.add_argument("--metric", default="accuracy", help="the main metric (default: accuracy)")
    parser.add_argument(
        "--dry-run", type=Path, metavar="FILE", help="write the specification there; no network"
    )


def main(options: argparse.Namespace) -> int:
    """Saves the dashboard, or writes its specification."""
    if find_spec("wandb_workspaces") is None:
        raise ConfigError(f"needs a package: {install_line('dashboard')}")
    from seven_bench.results.dashboard import build_workspace, specification

    workspace = build_workspace(options.entity, options.project, options.suite, options.metric)
    if options.dry_run is not None:
        from seven_bench.store.record import write_json

        write_json(options.dry_run, specification(workspace))
        print(f"wrote {options.dry_run}")
        return 0
    try:
        workspace.save()
    except Exception as error:  # the network, the login, W&B: one line is what helps
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the dashboard was not saved: {reason}") from error
    print(f"saved {workspace.url}")
    return 0
