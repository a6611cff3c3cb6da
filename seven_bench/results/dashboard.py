"""The saved W&B dashboard of a suite, built with wandb-workspaces (extra `dashboard`)."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any


def build_workspace(entity: str, project: str, suite: str | None, metric: str) -> Any:
    """The workspace: final metric over sparsity, curves, densities and churn, grouped by method.

    Args:
        metric: the task's main metric, such as `accuracy`.
        suite: only runs of this W&B group; None: all.
    """
    # imported by name: its type hints miss half of what it has
    panels: Any = import_module("wandb_workspaces.reports.v2")
    workspaces: Any = import_module("wandb_workspaces.workspaces")
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
