"""A suite's own run of W&B: the page's curve figures as media."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from seven_bench.results import plots
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.sections.section import all_methods
from seven_bench.results.styles import assign_styles
from seven_bench.settings.model import Settings
from seven_bench.training.loggers import log_suite


def show_suite(settings: Settings, folders: Iterable[Path]) -> None:
    """Draws metric over sparsity of finished runs as the page does, and gives it to W&B.

    Args:
        settings: of any run of the suite: its name, and where W&B is.
        folders: of the finished runs.
    """
    records = collect(folders).records
    if records.empty:
        return
    groups = split_groups(records)
    styles = assign_styles(name for group in groups for name in all_methods(group))
    with tempfile.TemporaryDirectory(prefix="seven_bench_") as folder:
        figures = {}
        for number, group in enumerate(groups):
            if group.sparsities:
                path = Path(folder) / f"{number}.png"
                path.write_bytes(plots.to_png(plots.draw_metric(group, styles)))
                figures[group.title] = path
        if figures:
            log_suite(settings, figures)
