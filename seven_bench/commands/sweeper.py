"""A Hydra sweeper for suites of runs: composes each once, drops what is done, goes on after
failures, and ends with the table and the commands that repeat what failed.

Needs no torch until something is to be done.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from seven_bench.commands.complaints import one_line
from seven_bench.commands.search_path import PluginsSearchPath, declare_typed
from seven_bench.commands.sweep_progress import Past, Watch, shown
from seven_bench.errors import ConfigError
from seven_bench.interrupts import Interrupted, kept, passed_on, pending, watch_again
from seven_bench.settings.checks import check, resolved
from seven_bench.settings.identity import dense_start, identify
from seven_bench.settings.model import Settings, shard_of
from seven_bench.settings.node import read_key
from seven_bench.store.run_folder import RunFolder

PLUGIN_MODULE = "hydra_plugins.seven_bench"  # Hydra takes plugins from this namespace alone
RAY_STORE = 75 << 20  # bytes of what its processes share: settings, and what a run returns
TOP = ("sparsity", "seed")  # keys of no group
REFERENCE = re.compile(r"\$\{[^}]*\b(seed|sparsity)\b")
# set on a copy of a composed config, without composing again
PLAIN = ("sparsity", "seed", "data.split_seed", "calibration.seed")


@dataclass(frozen=True)
class Job:
    """One run of a suite: the overrides that make it, its settings, and its folder."""

    overrides: tuple[str, ...]
    settings: Settings
    folder: RunFolder

    @property
    def command(self) -> str:
        return f"python -m seven_bench {shlex.join(self.overrides)}"


@dataclass(frozen=True)
class Failure:
    """A run that failed, or cannot work at all, and why."""

    command: str
    reason: str


class SuiteSweeper(Sweeper):
    """The runs of `cells`, each with its own settings, times the swept values that were typed.

    Args:
        cells: mappings of override keys to a value or a list of values; every combination within a
            cell is a run (times the typed ones). An experiment sets them; null: one empty cell.
        params: values swept in every cell, as a mapping; what is typed wins over it.
    """

    __module__ = PLUGIN_MODULE
    config: DictConfig
    launcher: Launcher

    def __init__(self, cells: Any = None, params: Any = None) -> None:
        self.cells, self.params = cells or [{}], params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._resolved: dict[tuple[str, ...], Any] = {}

    def sweep(self, arguments: list[str]) -> None:
        shard, retry_failed, dry_run = (
            read_key(Settings, key, self.config[key])
            for key in ("shard", "retry_failed", "dry_run")
        )
        declare_typed(self.config.hydra, self.config.plugins)
        jobs, failures = self._jobs(arguments)
        part, parts = shard_of(shard)  # the same runs, whatever is done already
        mine = jobs[part::parts]
        records = {job.folder.path: job.folder.record() for job in mine}
        todo = [job for job in mine if records[job.folder.path] is None]
        before = len(mine) - len(todo)
        if not retry_failed:
            failed = _failed_on_disk(todo)
            failures += failed.values()
            todo = [job for job in todo if job.folder.path not in failed]
        for job in todo:
            if (damage := job.folder.damage()) is not None:
                print(f"damaged: {job.folder.path}: {damage}")
        print(
            f"{len(mine)} runs: {before} done, {len(todo)} to do"
            + (f", {len(failures)} cannot run" if failures else ""),
            flush=True,
        )
        stopped: Interrupted | None = None
        if dry_run:
            from seven_bench.running.dry_run import print_plan

            print_plan([job.settings for job in mine])
        elif todo:
            past = Past()
            for job in mine:
                if (record := records[job.folder.path]) is not None:
                    past.add(job.settings, record["cost"]["seconds"]["total"])
            todo = _in_order(todo, past)
            stopped, found = self._launch(todo, past, before)
            failures += found
            records |= {job.folder.path: job.folder.record() for job in todo}
        done = [job for job in mine if records[job.folder.path] is not None]
        if not dry_run:
            _show_table((records[job.folder.path], job.folder.path) for job in done)
            if todo and stopped is None:
                _show_in_wandb(done)
        if failures:
            _show_failures(failures)
        if stopped is not None:
            print(f"{len(done)} of {len(mine)} runs are done", flush=True)
            raise stopped
        if failures:
            sys.exit(1)

    def _jobs(self, arguments: list[str]) -> tuple[list[Job], list[Failure]]:
        """All runs, each once, and those that cannot be.

        Raises: ConfigError where there are none.
        """
        combinations = self._expand(arguments)
        if not combinations:
            raise ConfigError(f"no run in {shlex.join(arguments)}: a swept key has no values")
        jobs: dict[Path, Job] = {}
        failures: list[Failure] = []
        for overrides in combinations:
            try:
                job = self._job(overrides)
            except Exception as error:  # whatever is wrong with one run, the others go on
                failures.append(Failure(_command(overrides), one_line(error)))
            else:
                jobs.setdefault(job.folder.path, job)
        return [*jobs.values()], failures

    def _launch(
        self, todo: list[Job], past: Past | None = None, before: int = 0
    ) -> tuple[Interrupted | None, list[Failure]]:
        """Has the launcher do the jobs. Returns the signal that ended it, and what failed.

        Args:
            past: what finished runs took.
            before: runs of the suite that are done already.
        """
        batch = [list(job.overrides) for job in todo]
        watch: AbstractContextManager[None] = nullcontext()
        if todo[0].settings.progress:
            runs = [(job.settings, job.folder) for job in todo]
            watch = shown(Watch(runs, past or Past(), before), in_bar=_is_basic(self.launcher))
        try:
            with passed_on(), kept(), watch:
                if type(self.launcher).__name__ == "RayLauncher":
                    _start_ray(self.launcher)
                return None, _failed(todo, self._returned(batch))
        except BaseException:  # compiled code makes another error of `Interrupted`
            if (number := pending()) is None:
                raise
            return Interrupted(number), list(_failed_on_disk(todo).values())

    def _returned(self, batch: list[list[str]]) -> Iterator[JobReturn]:
        """What jobs return, without their configs: in this process each would stay in memory."""
        parts = [[job] for job in batch] if _is_basic(self.launcher) else [batch]
        first = 0
        for part in parts:
            for returned in self.launcher.launch(part, initial_job_idx=first):
                returned.cfg = returned.hydra_cfg = None
                yield returned
            first += len(part)

    def _expand(self, arguments: list[str]) -> list[tuple[str, ...]]:
        """All combinations, as override strings, in the order given."""
        typed = {argument.split("=", 1)[0].lstrip("+~") for argument in arguments}
        combinations: list[tuple[str, ...]] = []
        for cell in self.cells:
            given = {**self.params, **cell}
            axes = [_values(key, value) for key, value in given.items() if key not in typed]
            combinations += product(*axes, *self._typed(arguments))
        return combinations

    def _typed(self, arguments: list[str]) -> list[list[str]]:
        axes = []
        parser = OverridesParser.create(config_loader=self.loader)
        for override in parser.parse_overrides(arguments):
            key = override.get_key_element()
            if override.is_sweep_override():
                axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            else:
                axes.append([f"{key}={override.get_value_element_as_str()}"])
        return axes

    def _job(self, overrides: tuple[str, ...]) -> Job:
        plain = {o.split("=", 1)[0]: o for o in overrides if o.split("=", 1)[0] in PLAIN}
        grouped = tuple(o for o in overrides if o not in plain.values())
        if grouped not in self._composed:
            loaded = self.loader.load_sweep_config(self.config, list(grouped))
            with open_dict(loaded):
                del loaded["hydra"]
            self._composed[grouped] = loaded
        settings = check(self._values_of(grouped, list(plain.values())))
        if settings.trainer.devices > 1:
            raise ConfigError(
                f"trainer.devices={settings.trainer.devices}: a multirun runs on one device a "
                f"run; type it as a run of its own: {_command(overrides)}"
            )
        folder = identify(settings).folder(settings.output_root)
        return Job(overrides, settings, RunFolder(folder))

    def _values_of(self, grouped: tuple[str, ...], plain: list[str]) -> Any:
        """The values of a composed config with some set on it. Where nothing refers to these, they
        are set on values resolved before: that takes a tenth of the time.
        """
        composed = self._composed[grouped]
        parsed = OverridesParser.create().parse_overrides(plain)
        if grouped not in self._resolved:
            text = OmegaConf.to_yaml(composed, resolve=False)
            apart = REFERENCE.search(text) is None
            self._resolved[grouped] = resolved(composed.copy()) if apart else None
        set_here = {override.key_or_group: override.value() for override in parsed}
        referring = any("${" in str(value) for value in set_here.values())
        found = self._resolved[grouped]
        if found is not None and set_here.keys() <= {*TOP} and not referring:
            return {**deepcopy(found), **set_here}
        copied = composed.copy()
        for override in parsed:
            OmegaConf.update(copied, override.key_or_group, override.value())
        return resolved(copied)


def _values(key: str, value: Any) -> list[str]:
    values = value if isinstance(value, (list, tuple)) or OmegaConf.is_list(value) else [value]
    return [f"{key}={_text(item)}" for item in values]


def _is_basic(launcher: Launcher) -> bool:
    """Whether it does runs one after another in this process."""
    return type(launcher).__name__ == "BasicLauncher"


def _start_ray(launcher: Any) -> None:
    """Starts Ray before its launcher does, which then finds it running: Ray's core takes signals
    over as it starts, to print where it was.
    """
    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

    launcher.ray_cfg.init.setdefault("object_store_memory", RAY_STORE)  # as the launcher does
    start_ray(launcher.ray_cfg.init)
    watch_again()


def _text(value: Any) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _command(overrides: Iterable[str]) -> str:
    return f"python -m seven_bench {shlex.join(overrides)}"


def _in_order(jobs: list[Job], past: Past) -> list[Job]:
    """Jobs so that workers neither wait for one another nor end one after another: first runs that
    need different dense starts, then the largest, by what finished runs like them took. Of runs in
    rounds the highest sparsity is a large one, for it does those below on its way; these come last,
    when most of them are done.
    """
    first: dict[str, Job] = {}
    highest: dict[str, Job] = {}
    for job in jobs:
        settings = job.settings
        if settings.start.kind == "dense":
            first.setdefault(identify(dense_start(settings)).run_id, job)
        if _climbs(job):
            ladder = settings.model_dump_json(exclude={"sparsity"})
            if settings.sparsity > highest.setdefault(ladder, job).settings.sparsity:
                highest[ladder] = job
    tops = {job.folder.path for job in highest.values()}
    lower = [job for job in jobs if _climbs(job) and job.folder.path not in tops]
    beneath = {job.folder.path for job in lower}
    leading = [job for job in first.values() if job.folder.path not in beneath]
    others = [job for job in jobs if not _climbs(job)]
    times = [past.expected(job.settings) or job.settings.trainer.max_epochs for job in others]
    ranked = sorted(zip(times, others, strict=True), key=lambda each: -each[0])  # stable
    others = [job for _, job in ranked]
    ordered = (*leading, *highest.values(), *others, *lower)
    return list({job.folder.path: job for job in ordered}.values())


def _climbs(job: Job) -> bool:
    """Whether a run has runs of its own method below it."""
    rounds = job.settings.pruner.rounds
    return rounds is not None and rounds.fraction is not None and job.settings.sparsity > 0


def _failed_on_disk(jobs: Iterable[Job]) -> dict[Path, Failure]:
    """What earlier, or interrupted, work has left as failed, by folder."""
    return {
        job.folder.path: Failure(job.command, job.folder.reason())
        for job in jobs
        if job.folder.state() == "failed"
    }


def _failed(jobs: Sequence[Job], returned: Iterable[JobReturn]) -> list[Failure]:
    return [
        Failure(job.command, one_line(result._return_value))
        for job, result in zip(jobs, returned, strict=True)
        if result.status is JobStatus.FAILED
    ]


def _show_table(finished: Iterable[tuple[Any, Path]]) -> None:
    """Prints the tables of records, each given with its folder."""
    from seven_bench.results.collect import tabulate
    from seven_bench.results.tables import render_terminal
    from seven_bench.terminal import console as make_console

    found = [*finished]
    real = [(record, folder) for record, folder in found if not record.get("debug")]
    if real:
        console = make_console()
        for table in render_terminal(tabulate(real)):
            console.print(table)
    if debug := len(found) - len(real):
        print(f"{debug} went through with debug=true: no results, and in no table")


def _show_in_wandb(done: Sequence[Job]) -> None:
    if done and done[0].settings.logger.name == "wandb":
        from seven_bench.running.suite_summary import show_suite

        show_suite(done[0].settings, [job.folder.path for job in done])


def _show_failures(failures: Sequence[Failure]) -> None:
    print(f"\n{len(failures)} failed:", file=sys.stderr)
    for failure in failures:
        print(f"  {failure.command}\n    {failure.reason}", file=sys.stderr)


def register(*further: type[Sweeper]) -> None:
    """Makes the sweeper, further ones and the plug-ins' configs known to Hydra, as if they were
    installed in its plugins' namespace.
    """
    try:
        import hydra_plugins
    except ImportError:  # no other plugin is installed
        hydra_plugins = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
        hydra_plugins.__path__ = []
    module = ModuleType(PLUGIN_MODULE)
    kinds: tuple[type[Sweeper], ...] = (SuiteSweeper, *further)
    for kind in kinds:
        vars(module)[kind.__name__] = kind
    sys.modules[PLUGIN_MODULE] = module
    vars(hydra_plugins)["seven_bench"] = module
    for kind in kinds:
        Plugins.instance().register(kind)
    Plugins.instance().register(PluginsSearchPath)
