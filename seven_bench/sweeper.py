"""A Hydra sweeper that goes on after failures and ends with the table of what was run."""

from __future__ import annotations

import sys
from itertools import product
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SuiteSweeper(Sweeper):
    """Every combination of the swept values, handed to the launcher in one batch.

    Args:
        params: swept overrides from a config (an experiment's), as a mapping of key to values; the
            command line's win.
        max_batch_size: how many jobs a launcher gets at once; null: all.
    """

    failures: ClassVar[list[str]] = []

    def __init__(self, params: Any, max_batch_size: int | None) -> None:
        self.params, self.max_batch_size = params or {}, max_batch_size

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        type(self).failures.clear()
        typed = {argument.split("=", 1)[0] for argument in arguments}
        given = [f"{key}={value}" for key, value in self.params.items() if key not in typed]
        jobs = self._expand([*given, *arguments])
        size = self.max_batch_size or len(jobs) or 1
        returns: list[JobReturn] = []
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            returns += self.launcher.launch(batch, initial_job_idx=start)
        self._report(jobs, returns)

    def _expand(self, arguments: list[str]) -> list[list[str]]:
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        axes = []
        for override in parser.parse_overrides(arguments):
            key = override.get_key_element()
            if override.is_sweep_override():
                axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            else:
                axes.append([f"{key}={override.get_value_element_as_str()}"])
        return [list(job) for job in product(*axes)]

    def _report(self, jobs: list[list[str]], returns: list[JobReturn]) -> None:
        from seven_bench.cli import one_line

        for job, done in zip(jobs, returns, strict=True):
            if done.status is JobStatus.FAILED:
                reason = one_line(done._return_value)
                self.failures.append(f"python -m seven_bench {' '.join(job)}: {reason}")
        _show_table(self._runs(jobs, returns))
        if self.failures:
            print(f"\n{len(self.failures)} of {len(jobs)} runs failed:", file=sys.stderr)
            for line in self.failures:
                print(f"  {line}", file=sys.stderr)

    def _runs(self, jobs: list[list[str]], returns: list[JobReturn]) -> list[str]:
        """The folders of the finished jobs."""
        from seven_bench.config import checked
        from seven_bench.identity import identify

        folders = []
        for done in returns:
            if done.status is JobStatus.COMPLETED and done.cfg is not None:
                config = checked(OmegaConf.create(OmegaConf.to_container(done.cfg, resolve=False)))
                folders.append(str(identify(config).folder(config["output_root"])))
        return folders


def _show_table(folders: list[str]) -> None:
    from rich.console import Console

    from seven_bench.results.collect import collect
    from seven_bench.results.tables import render_terminal

    if not folders:
        return
    shown = render_terminal(collect(folders).records)
    console = Console()
    for table in shown if isinstance(shown, list) else [shown]:
        console.print(table)
