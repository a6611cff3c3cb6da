"""SIGTERM and SIGINT end a run or a sweep in order, and the same command goes on from there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from seven_bench import guard
from seven_bench.running.run import run
from seven_bench.store.run_folder import RunFolder
from tests.conftest import ROOT, program

SHORT = (
    "pruner=seven_dyn", "start=init", "trainer.checkpoint_every=0.2", "logger=none",
    "progress=false", "trainer.threads=1",
)  # fmt: skip
LONG = (*SHORT, "trainer.max_epochs=500")
SWEEP = ("-m", *LONG, "seed=0,1")


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """The program in a session of its own, as a terminal or a process manager starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "seven_bench", *arguments, f"output_root={root}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"}, start_new_session=True,
    )  # fmt: skip


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.05)


def checkpoints(root: Path) -> list[Path]:
    return [*root.rglob("last.ckpt")]


def states(root: Path) -> list[str]:
    return [json.loads(path.read_text())["state"] for path in root.rglob("status.json")]


def living(root: Path) -> list[str]:
    """Processes whose command line or working environment is of the sweep below `root`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            running = (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
        if str(root).encode() in told and running:
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_ends_in_order_and_keeps_its_work(number, tmp_path):
    process = start(tmp_path, *LONG)
    until(lambda: checkpoints(tmp_path))
    told = time.time()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    name = signal.Signals(number).name
    assert errors == f"interrupted by {name}: the same command goes on from there\n"
    assert output == ""
    assert states(tmp_path) == ["interrupted"]
    (path,) = checkpoints(tmp_path)
    assert path.stat().st_mtime >= told - 0.5, "no checkpoint of the last moment"


def test_a_signal_before_anything_has_begun(tmp_path):
    process = start(tmp_path, *LONG)
    time.sleep(0.4)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (143, -signal.SIGTERM)  # Python itself may not be up yet
    assert "Traceback" not in errors and "error" not in errors


LAUNCHERS = [
    ("basic", None),
    ("parallel", "hydra_plugins.hydra_joblib_launcher"),
    ("ray_local", "hydra_plugins.hydra_ray_launcher"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One run of the four, done."""
    root = tmp_path_factory.mktemp("finished")
    done = program(*SHORT, "trainer.max_epochs=1", f"output_root={root}")
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize(("launcher", "plugin"), LAUNCHERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_sweep_ends_in_order(launcher, plugin, number, finished, tmp_path):
    if plugin and (find_spec("hydra_plugins") is None or find_spec(plugin) is None):
        pytest.skip(f"{plugin} is not installed: hydra/launcher={launcher} is not tried here")
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    epochs = "trainer.max_epochs=1,500"
    process = start(tmp_path, "-m", *SHORT, epochs, "seed=0,1", f"hydra/launcher={launcher}")
    jobs = 1 if launcher == "basic" else 2
    until(lambda: len(checkpoints(tmp_path)) >= jobs, 120)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal tells all of them
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=90)
    until(lambda: not living(tmp_path), 5)
    if number == signal.SIGKILL:
        return
    assert process.returncode == 128 + number, output + errors
    told = [line for line in errors.splitlines() if "interrupted" in line or "error" in line]
    assert told == [
        f"interrupted by {signal.Signals(number).name}: the same command goes on from there"
    ]
    found = states(tmp_path)
    assert "failed" not in found and "running" not in found
    assert found.count("interrupted") == jobs
    assert f"{found.count('done')} of 4 runs are done" in output
    assert "Accuracy (%)" in output  # the table


#: A sweep's process with one that takes no notice of it: deaf to signals, in another session.
SWEEPING = """
import subprocess, sys
from seven_bench.interrupts import passed_on
deaf = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; time.sleep(60)"
with passed_on():
    child = subprocess.Popen([sys.executable, "-c", deaf, sys.argv[1]], start_new_session=True)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the guard reads /proc")
@pytest.mark.parametrize("killed", [True, False])
def test_what_a_killed_sweep_leaves_is_ended_and_after_another_nothing(killed, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = [sys.executable, "-c", SWEEPING, str(tmp_path)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:  # fmt: skip
        child = int(process.stdout.readline())
        until(lambda: [told for told in living(tmp_path) if "guard.py" in told])
        if killed:
            process.kill()
    assert process.returncode == (-signal.SIGKILL if killed else 0)
    if killed:
        until(lambda: not living(tmp_path), 8)
    else:
        (left,) = living(tmp_path)
        assert "guard.py" not in left
        os.kill(child, signal.SIGKILL)
    assert list(temporary.iterdir()) == []


def test_the_guard_is_small():
    """It runs beside every sweep: it loads nothing of this package, nor anything slow."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(len(sys.modules))"
    words = [sys.executable, "-I", "-S", "-c", code, guard.__file__]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80


def test_an_interrupted_run_is_no_failed_one(tmp_path):
    process = start(tmp_path, *SWEEP)
    until(lambda: checkpoints(tmp_path))
    process.terminate()
    process.communicate(timeout=60)
    plan = program(*SWEEP, "retry_failed=false", "dry_run=true", f"output_root={tmp_path}")
    assert "2 runs: 0 done, 2 to do" in plan.stdout, plan.stdout + plan.stderr
    assert "interrupted" in plan.stdout


def test_a_score_that_calls_exit_is_a_failure(make_config, monkeypatch):
    def leave(*args):
        raise SystemExit(0)

    monkeypatch.setattr("seven_bench.baselines.magnitude.MagnitudeScore.scores", leave)
    config = make_config("pruner=magnitude", "start=init", "logger=none", "progress=false")
    with pytest.raises(RuntimeError, match=r"called exit\(0\)"):
        run(config)
    (status,) = Path(config.output_root).rglob("status.json")
    folder = RunFolder(status.parent)
    assert folder.state() == "failed" and "called exit(0)" in folder.reason()
