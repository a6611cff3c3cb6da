"""`python -m seven_bench.testing METHOD ...`: whether a method keeps what every method here keeps.

Each check trains tiny models for a few seconds. Exit code 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from seven_bench.errors import ConfigError
from seven_bench.settings.conf import declare
from seven_bench.terminal import printable

EPILOG = """\
examples:
  python -m seven_bench.testing my_method
  python -m seven_bench.testing my_method --model bert --optimizer adamw
  python -m seven_bench.testing small --config-dir conf --plugins small
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each check; returns the exit code."""
    options = _parser().parse_args(arguments)
    folders = [options.config_dir] if options.config_dir else []
    try:
        declare(folders, [name for name in options.plugins.split(",") if name])
        from seven_bench.testing import every_method as every  # torch, Lightning

        known = every.methods()
        if odd := [name for name in options.methods if name not in known]:
            raise ConfigError(f"{odd[0]}: no such method; known are {', '.join(known)}")
        warnings.filterwarnings("ignore")
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        return 1 if sum(_failures(options)) else 0
    except ConfigError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1


def _failures(options: argparse.Namespace) -> Iterator[int]:
    """1 for each check that does not hold, 0 for one that does, as they are done."""
    from seven_bench.testing import every_method as every

    for method in options.methods:
        for model in options.model:
            for optimizer in options.optimizer:
                for name, check in every.CHECKS.items():
                    began, said = time.perf_counter(), "holds"
                    with tempfile.TemporaryDirectory() as place:
                        try:
                            check(method, model, optimizer, Path(place))
                        except Exception as error:  # a method's code may raise anything
                            said = f"FAILS: {type(error).__name__}: {printable(str(error))}"
                    seconds = time.perf_counter() - began
                    where = f"{method} | {model:4} | {optimizer:5}"
                    print(f"{where} | {name} | {seconds:.1f} s | {said}", flush=True)
                    yield int(said != "holds")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m seven_bench.testing",
        description="Whether a method keeps what every method of the suite keeps.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="as pruner= has it")
    models, optimizers = ["vit", "bert", "clip"], ["sgd", "adamw"]
    parser.add_argument("--model", nargs="+", choices=models, default=models)
    parser.add_argument("--optimizer", nargs="+", choices=optimizers, default=optimizers)
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="as for a run")
    parser.add_argument("--plugins", default="", metavar="PKG,PKG", help="as for a run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
