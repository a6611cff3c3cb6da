"""The saved W&B dashboard of a suite, built with wandb-workspaces (extra `dashboard`)."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any


def build_workspace(entity: str, project: str, suite: str | None, metric: str) -> Any:
    """The workspace: final metric over sparsity with its spread, trade-off and cost, curves,
    densities and churn; runs are grouped by method.

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

    final = f"final/{metric}"

    def bars(title: str, key: str) -> Any:
        return panels.BarPlot(
            title=title, metrics=[panels.SummaryMetric(key)], groupby="config.pruner.name"
        )

    def against(title: str, key: str) -> Any:
        x, y = panels.SummaryMetric(key), panels.SummaryMetric(final)
        return panels.ScatterPlot(title=title, x=x, y=y)

    results = workspaces.Section(
        name="Results",
        is_open=True,
        panels=[
            panels.LinePlot(  # of each run its last row: a line a method, through its seeds
                title=f"{metric} over sparsity: mean and standard deviation",
                x="final/sparsity_target",
                y=[final],
                title_x="target sparsity",
                groupby="config.pruner.name",
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                aggregate=True,
            ),
            bars(f"{metric} by method", final),
        ],
    )
    trade = workspaces.Section(
        name="Trade-off and cost",
        is_open=True,
        panels=[
            against(f"{metric} over bytes, packed", "final/bytes/packed"),
            against(f"{metric} over MACs that are left", "final/macs/masked"),
            against(f"{metric} over example equivalents", "final/cost/total"),
            bars("example equivalents by method", "final/cost/total"),
            bars("of that, scoring", "final/cost/scoring"),
            bars("seconds by method", "final/seconds/total"),
        ],
    )
    training = workspaces.Section(
        name="Training",
        panels=[
            curve(f"validation {metric}", f"validation/{metric}"),
            curve("training loss", "train/loss"),
            panels.LinePlot(title="loss by step", x="trainer/global_step", y=["step/loss"]),
        ],
    )
    pruning = workspaces.Section(
        name="Pruning",
        panels=[
            curve("sparsity", "progress/sparsity"),
            panels.LinePlot(title="sparsity by step", x="trainer/global_step", y=["step/sparsity"]),
            curve("mask churn", "progress/churn"),
            panels.LinePlot(title="density by layer", x=step, metric_regex="density/.*"),
        ],
    )
    filters = [workspaces.Metric("Group") == suite] if suite else []
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"seven_bench: {suite or 'all suites'}",
        sections=[results, trade, training, pruning],
        runset_settings=workspaces.RunsetSettings(filters=filters, groupby=[method, target]),
        auto_generate_panels=False,
    )


def specification(workspace: Any) -> dict[str, Any]:
    """What W&B would be sent, as plain values."""
    spec: dict[str, Any] = json.loads(workspace._to_model().model_dump_json(by_alias=True))
    return spec
