"""The front door: `seven-bench VERB ...` is a verb of this folder, anything else a Hydra run.

A verb is a module with EPILOG, `add_arguments(parser)` and `main(options)`, which returns the exit
code and raises what is wrong. Only the module of the verb at hand is imported.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from seven_bench import __version__, interrupts
from seven_bench.errors import ConfigError
from seven_bench.running.imports import for_good

VERBS = {
    "list": "what there is to choose from, and what goes with what",
    "tune": "as many trials of settings for every method, before they are compared",
    "report": "finished runs as a page, tables and figures",
    "compare": "runs beside the numbers of a paper",
    "collect": "the records of many runs as one Parquet or CSV file",
    "sentinels": "what the masks of finished runs keep of steady and of noisy weights",
    "export": "the models of finished runs, in a form that profits from their zeros",
    "dashboard": "a saved W&B dashboard of a suite",
}
FULL_ERROR = "HYDRA_FULL_ERROR"  # set to 1, it shows the trace of an error


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `seven-bench` and `python -m seven_bench`; returns the exit code.

    Args:
        arguments: those of a verb; None: the command line, which may be a run too.
    """
    given = sys.argv[1:] if arguments is None else [*arguments]
    wants_trace = os.environ.get(FULL_ERROR) == "1"  # as the user set it, before a run does
    try:
        with interrupts.watched():
            code = _main(given)
            sys.stdout.flush()
            return code
    except interrupts.Interrupted as error:
        more = "" if given[:1] and given[0] in VERBS else ": the same command goes on from there"
        print(f"{error}{more}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # whoever reads this, as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if wants_trace:
            raise
        from seven_bench.commands.complaints import complain

        complain(error)
        return 1


def _main(given: list[str]) -> int:
    if given[:1] == ["--version"]:
        print(f"seven-bench {__version__}")
        return 0
    if given[:1] == ["-sc"] and (words := completions(os.environ.get("COMP_LINE", ""))):
        print(" ".join(words))
        return 0
    if given and re.fullmatch("[a-z_]+", given[0]):
        options = build_parser(given[0]).parse_args(given)
        _log_once()
        code: int = _door(options.verb).main(options)
        return code
    with for_good("seven_bench.commands.run"):
        from seven_bench.commands.run import main as run

    run()
    return 0


class Parser(argparse.ArgumentParser):
    """The standard parser, with errors like all others: one line, and how to find out more."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} ({self.prog} --help)")


def build_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of all verbs; only `verb` has its arguments, and may be none of them.

    Raises: ConfigError when `verb` is none.
    """
    if verb not in VERBS:
        from difflib import get_close_matches

        near = "".join(f"; did you mean {name}?" for name in get_close_matches(verb, VERBS, n=1))
        known = ", ".join(VERBS)
        raise ConfigError(f"{verb}: no such verb; known are {known}{near} (a setting is key=value)")
    parser = Parser(prog="seven-bench")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, words in VERBS.items():
        made = verbs.add_parser(
            name,
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == verb:
            made.epilog = _door(name).EPILOG
            _door(name).add_arguments(made)
    return parser


def describe_verbs() -> str:
    """All verbs in a line each, for `--help`."""
    return "\n".join(f"  {name:10} {words}" for name, words in VERBS.items())


def completions(line: str) -> list[str]:
    """What may stand at the end of a command line that is about a verb; none where it is a run's.

    Hydra's script for the shell's completion asks for it, of verbs as of settings.
    """
    words = line.split()[1:] + ([""] if line.endswith(" ") else [])
    if len(words) == 1 and words[0]:
        return [verb for verb in VERBS if verb.startswith(words[0])]
    if len(words) < 2 or words[0] not in VERBS:
        return []
    parser = argparse.ArgumentParser()
    _door(words[0]).add_arguments(parser)
    options = [option for action in parser._actions for option in action.option_strings]
    return [option for option in options if option.startswith(words[-1])]


def _log_once() -> None:
    """Libraries' warnings on stderr, those that repeat once."""
    from seven_bench.terminal import Once

    handler = logging.StreamHandler()
    handler.addFilter(Once())
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[handler])


def _door(verb: str) -> ModuleType:
    module = f"seven_bench.commands.{verb}"
    with for_good(module):
        return import_module(module)
