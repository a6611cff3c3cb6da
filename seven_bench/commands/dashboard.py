"""The saved W&B dashboard of a suite: `seven-bench dashboard --project P`.

Panels and grouping are built with wandb-workspaces. Saving needs a login; `--dry-run` writes the
specification as JSON and reaches no network.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def build_workspace(entity: str, project: str, suite: str | None, metric: str) -> Any:
    """The workspace: final metric over sparsity, curves, densities and churn, grouped by method.

    Args:
        metric: the task's main metric, such as `accuracy`.
        suite: only runs of this W&B group; None: all.
    """
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    method, target = workspaces.Config("pruner.name"), workspaces.Config("sparsity")
    step = "progress/step"

    def curve(title: str, y: str) -> Any:
        return panels.LinePlot(title=title, x=step, y=[y], title_x="optimizer steps")

    results = workspaces.Section(
        name="Results",
        is_open=True,
        panels=[
            panels.ScatterPlot(
                title=f"{metric} over sparsity",
                x=panels.SummaryMetric("final/sparsity"),
                y=panels.SummaryMetric(f"final/{metric}"),
            ),
            panels.BarPlot(
                title=f"{metric} by method",
                metrics=[panels.SummaryMetric(f"final/{metric}")],
                groupby=panels.Config("pruner.name"),
            ),
        ],
    )
    training = workspaces.Section(
        name="Training",
        panels=[
            curve(f"validation {metric}", f"validation/{metric}"),
            curve("training loss", "train/loss"),
        ],
    )
    pruning = workspaces.Section(
        name="Pruning",
        panels=[
            curve("sparsity", "progress/sparsity"),
            curve("mask churn", "progress/churn"),
            panels.LinePlot(title="density by layer", x=step, metric_regex="density/.*"),
        ],
    )
    filters = [workspaces.Metric("Group") == suite] if suite else []
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"seven_bench: {suite or 'all suites'}",
        sections=[results, training, pruning],
        runset_settings=workspaces.RunsetSettings(filters=filters, groupby=[method, target]),
        auto_generate_panels=False,
    )


def specification(workspace: Any) -> dict[str, Any]:
    """What W&B would be sent, as plain values."""
    spec: dict[str, Any] = json.loads(workspace._to_model().model_dump_json(by_alias=True))
    return spec


def main(argv: list[str] | None = None) -> int:
    """Saves the dashboard, or writes its specification. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="seven-bench dashboard",
        description=(__doc__ or "").split("\n\n")[0],
    )
    parser.add_argument("--entity", default="", help="W&B user or team (default: your own)")
    parser.add_argument("--project", default="seven_bench", help="default: seven_bench")
    parser.add_argument("--suite", help="only the runs of this suite (W&B group)")
    parser.add_argument("--metric", default="accuracy", help="the main metric (default: accuracy)")
    parser.add_argument(
        "--dry-run", type=Path, metavar="FILE", help="write the specification there; no network"
    )
    given = parser.parse_args(argv)
    if find_spec("wandb_workspaces") is None:
        print("error: needs a package: pip install wandb-workspaces", file=sys.stderr)
        return 1
    workspace = build_workspace(given.entity, given.project, given.suite, given.metric)
    if given.dry_run is not None:
        from seven_bench.store.record import write_json

        write_json(given.dry_run, specification(workspace))
        print(f"wrote {given.dry_run}")
        return 0
    try:
        workspace.save()
    except Exception as error:  # the network, the login, W&B: one line is what helps
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"error: the dashboard was not saved: {reason}", file=sys.stderr)
        return 1
    print(f"saved {workspace.url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
