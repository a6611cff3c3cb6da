"""Packages from outside whose classes a run is made of, with their versions. Imports none of them.

The version of a method decides its result: it is part of a run's identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from seven_bench.settings.conf import GROUP, conf_sources, plugin_folder
from seven_bench.settings.model import Settings
from seven_bench.settings.node import Target


def outside_package(path: str) -> str | None:
    """The plug-in's package that a target lies in; None of the suite's own and of libraries."""
    outside = [source for source in conf_sources() if source.packages is not None]
    return path.partition(".")[0] if any(source.may_name(path) for source in outside) else None


def versions_of(targets: Iterable[Target | None]) -> dict[str, str]:
    """The versions of the packages from outside that targets lie in, by import name."""
    paths = (target.path for target in targets if target is not None)
    found = filter(None, (outside_package(path) for path in paths))
    return {package: version_of(package) for package in sorted(found)}


def all_versions(settings: Settings) -> dict[str, str]:
    """The versions of all packages from outside that a run is made of."""
    return {**method_versions(settings), **other_versions(settings)}


def method_versions(settings: Settings) -> dict[str, str]:
    """Those of its method."""
    return versions_of((settings.pruner.score, settings.pruner.schedule))


def other_versions(settings: Settings) -> dict[str, str]:
    """Those of its task and model."""
    return versions_of((settings.task.data, settings.task.module, settings.model.build))


@cache
def version_of(package: str) -> str:
    """The version of the distribution that has a package; of one that was not installed, but lies
    on the path, a hash of its code.
    """
    points = {p.value.partition(".")[0]: p.dist for p in entry_points(group=GROUP)}
    if (dist := points.get(package)) is not None:
        return dist.version
    for name in (package, *packages_distributions().get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return f"files-{_digest(package)}"


def _digest(package: str) -> str:
    spec = find_spec(package)
    alone = spec is not None and not spec.submodule_search_locations and spec.origin
    folder = plugin_folder(package)
    files = [Path(alone)] if alone else sorted(folder.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}:{content}\n".encode())
    return digest.hexdigest()[:12]
