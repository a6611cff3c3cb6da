"""What several verbs share: arguments, and how they say what is not, or hardly, to be trusted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from seven_bench.settings.conf import declare
from seven_bench.terminal import printable


def add_results(parser: argparse.ArgumentParser) -> None:
    """`RESULTS`: where to look for records."""
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="folders to search for result.json, or such files",
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """`--config-dir`, `--plugins`: methods from outside that are not installed as such."""
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="a further folder of config groups"
    )
    parser.add_argument(
        "--plugins",
        default="",
        metavar="PKG,PKG",
        help="packages on Python's path whose classes the files of --config-dir name",
    )


def declare_plugins(options: argparse.Namespace) -> None:
    """Declares what was given of them. Raises: ConfigError when it is not there."""
    folders = [options.config_dir] if options.config_dir else []
    declare(folders, [name for name in options.plugins.split(",") if name])


def add_unsealed(parser: argparse.ArgumentParser) -> None:
    """`--unsealed`: take records without checksums, which are left out otherwise."""
    parser.add_argument(
        "--unsealed",
        action="store_true",
        help="take records that hold no checksums, too, and say so wherever they are shown",
    )


def print_left_out(damaged: Iterable[tuple[str | Path, str]], unsealed: Iterable[Path]) -> None:
    """A line on stderr for each file that was left out, and for each run without a seal."""
    for path, reason in damaged:
        print(f"left out: {printable(path)}: {printable(reason)}", file=sys.stderr)
    for folder in unsealed:
        print(f"unsealed: {printable(folder)}", file=sys.stderr)


def print_problems(problems: Iterable[str]) -> None:
    """A line on stderr for each."""
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
