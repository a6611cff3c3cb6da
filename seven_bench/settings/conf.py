"""The configuration: the installed one, those of plug-ins, and single choices out of them.

A plug-in is a package that the user has installed, with an entry point of the group
`seven_bench.methods` that names a package with a folder `conf/`; or a folder that the user has
given (`--config-dir`) whose targets lie in packages that the user has named (`plugins=`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from seven_bench.errors import ConfigError

log = logging.getLogger(__name__)
GROUP = "seven_bench.methods"
HERE = "@_here_"  # in a file's defaults: another file's keys beside its own


@dataclass(frozen=True)
class ConfSource:
    """A folder of config groups, whose it is in words, and the packages (top-level import names)
    whose classes its files may name; null for the installed configuration, which may name any.
    """

    folder: Path
    origin: str = ""
    packages: tuple[str, ...] | None = None

    def may_name(self, path: str) -> bool:
        return self.packages is None or path.partition(".")[0] in self.packages


_declared: tuple[ConfSource, ...] = ()


def conf_dir() -> Path:
    """The folder of configs: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def conf_sources() -> tuple[ConfSource, ...]:
    """All folders of configs, the installed one first: where two have a file, the first counts."""
    return (ConfSource(conf_dir()), *plugged_in(), *_declared)


@cache
def plugged_in() -> tuple[ConfSource, ...]:
    """The configs of installed plug-ins. One that cannot be used is said, and left out."""
    found: list[ConfSource] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            source = _of_entry_point(point)
            _check_shadowing(source, (ConfSource(conf_dir()), *found))
        except ConfigError as error:
            log.warning("left out: %s", error)
        else:
            found.append(source)
    return tuple(found)


def _of_entry_point(point: EntryPoint) -> ConfSource:
    package, *below = point.value.split(".")
    folder = plugin_folder(package).joinpath(*below, "conf")
    whose = f"{point.dist.name} {point.dist.version}" if point.dist else package
    if not folder.is_dir():
        raise ConfigError(f"{whose}: its entry point {GROUP} says {point.value}: no {folder}")
    return ConfSource(folder, whose, (package,))


def declare(folders: Iterable[str | Path], packages: Iterable[str]) -> None:
    """What the user has given this run beside what is installed; replaces what was given before.

    Args:
        folders: of config groups.
        packages: import names, whose classes the folders' files may name.

    Raises: ConfigError when one is not there, or a folder has a file that stands elsewhere.
    """
    global _declared
    named = tuple(packages)
    for package in named:
        plugin_folder(package)
    _declared = ()
    given = tuple(ConfSource(Path(folder).absolute(), str(folder), named) for folder in folders)
    for source in given:
        if not source.folder.is_dir():
            raise ConfigError(f"--config-dir {source.origin}: no such folder")
        _check_shadowing(source, conf_sources())
    _declared = given


def declared_arguments() -> list[str]:
    """What was declared, as arguments of a process that shall know it too."""
    packages = dict.fromkeys(name for source in _declared for name in source.packages or ())
    folders = [f"--config-dir={source.folder}" for source in _declared]
    return [*folders, *(f"--plugin={name}" for name in packages)]


def declare_arguments(arguments: Iterable[str]) -> None:
    """Declares what `declared_arguments` of another process said."""
    given = [argument.partition("=") for argument in arguments]
    folders = [value for key, _, value in given if key == "--config-dir"]
    declare(folders, [value for key, _, value in given if key == "--plugin"])


def plugin_folder(package: str) -> Path:
    """Where a package (or a module of one file) lies; its code is not run.

    Raises: ConfigError when it is not on Python's path.
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # ValueError: of `__main__`
        spec = None
    places = [*(spec.submodule_search_locations or ())] if spec is not None else []
    if spec is not None and spec.origin is not None and not places:
        places = [str(Path(spec.origin).parent)]
    if not places:
        raise ConfigError(
            f"plugins={package}: no such package on Python's path (PYTHONPATH=DIR adds a folder)"
        )
    return Path(places[0])


def _check_shadowing(source: ConfSource, others: Iterable[ConfSource]) -> None:
    for path in yaml_files(source.folder):
        name = path.relative_to(source.folder)
        for other in others:
            if (other.folder / name).is_file():
                raise ConfigError(
                    f"{source.origin}: {name.with_suffix('')}: {other.origin or 'seven_bench'} "
                    "has a file of that name; give it another"
                )


def yaml_files(folder: Path) -> Iterator[Path]:
    """All configs below a folder, sorted."""
    yield from sorted(folder.rglob("*.yaml"))


def find_file(name: str) -> Path | None:
    """The file of a choice, as `pruner/dense`; None where there is none."""
    files = (source.folder / f"{name}.yaml" for source in conf_sources())
    return next((file for file in files if file.is_file()), None)


def names_of(group: str) -> list[str]:
    """The choices of a group."""
    roots = [source.folder / group for source in conf_sources()]
    found = (file.relative_to(root) for root in roots for file in yaml_files(root))
    return sorted({name.with_suffix("").as_posix() for name in found})


def choice(name: str) -> dict[str, Any]:
    """What a file of the configuration says, as `pruner/dense`, with what its defaults bring along:
    of files that interpolate nothing.
    """
    file = find_file(name)
    if file is None:
        raise ConfigError(f"{name}: no file of the configuration has that name")
    return _read(file)


@cache
def _read(file: Path) -> dict[str, Any]:
    own: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    shared: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if entry.endswith(HERE):
            shared |= choice(entry.removeprefix("/").removesuffix(HERE))
    return {**shared, **own}
