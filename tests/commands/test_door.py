"""The front door: one program, one style of error, quick to open."""

import resource
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest

from seven_bench import __version__
from seven_bench.commands import VERBS, build_parser, completions, main
from seven_bench.settings.conf import conf_dir
from tests.conftest import ROOT, program

SLACK = 3  # for a busy machine; the limits themselves are 1.0 s and 0.6 s of user time


def timed(*arguments: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """User seconds of a command, and what it did."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = program(*arguments, preload="")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, done


def test_help_names_all_verbs_and_groups_at_once():
    seconds, done = timed("--help")
    assert done.returncode == 0
    for name in VERBS:
        assert f"\n  {name} " in done.stdout
    for folder in conf_dir().iterdir():
        if folder.is_dir() and folder.name not in ("hydra",):
            assert f"\n{folder.name}: " in done.stdout or f"\n{folder.name}/" in done.stdout
    assert seconds < 1.0 * SLACK


def test_list_and_a_verbs_help_are_there_at_once():
    assert timed("list")[0] < 0.6 * SLACK
    assert timed("report", "--help")[0] < 0.6 * SLACK


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_with_examples(verb, capsys):
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: seven-bench {verb} ")
    assert f"  seven-bench {verb}" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lst"], "lst: no such verb; known are list, tune, report"),
        (["lst"], "did you mean list?"),
        (["report"], "required: RESULTS, --out (seven-bench report --help)"),
        (["export", "x", "--to", "zip"], "argument --to: invalid choice: 'zip'"),
        (["export", "x", "--to", "csr", "--batch", "0"], "--batch 0: allowed is"),
        (["collect"], "name folders of runs"),
        (["collect", "x", "--out", "x.json"], "--out x.json: allowed are"),
        (["sentinels", "x", "--batches", "1"], "--batches 1: allowed is"),
        (["compare", "nobody", "x"], "nobody: no such paper; known are bert_tickets"),
        (["list", "--markdown", "--matrix"], "not allowed with argument"),
    ],
)
def test_every_error_is_one_line_in_one_style(arguments, words, capsys):
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") and told.err.count("\n") == 1
    assert words in told.err


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"seven-bench {__version__}\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seven-bench re", ["report"]),
        ("seven-bench co", ["compare", "collect"]),
        ("seven-bench report --ma", ["--margin", "--mask-budget"]),
        ("seven-bench collect --wan", ["--wandb"]),
        ("seven-bench pruner=s", []),  # Hydra's
        ("seven-bench ", []),
    ],
)
def test_completion_of_verbs_and_their_options(line, words):
    assert completions(line) == words


def test_completion_of_settings_is_hydras():
    done = program("-sc", "query=bash", COMP_LINE="seven-bench pruner=seven_d")
    assert done.stdout.split() == [
        "pruner=seven_dyn",
        "pruner=seven_dyn_released",
        "pruner=seven_dyn_signed",
    ]


def test_one_parser_knows_all_verbs():
    assert all(verb in build_parser("list").format_help() for verb in VERBS)


def test_a_reader_that_has_enough_is_no_error():
    command = [sys.executable, "-m", "seven_bench", "list", "--matrix"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
