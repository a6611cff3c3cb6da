"""The line of a sweep's progress, against arithmetic."""

import json
import sys

import pytest

from seven_bench import terminal
from seven_bench.commands import sweep_progress
from seven_bench.commands.sweep_progress import Past, Watch, in_words, shown
from seven_bench.settings.identity import dense_start, identify
from seven_bench.store.run_folder import RunFolder

TINY = ("logger=none", "trainer.max_epochs=10")


def told(folder, state, started, heartbeat=0.0):
    folder.path.mkdir(parents=True, exist_ok=True)
    status = {"state": state, "started": started, "heartbeat": heartbeat}
    (folder.path / "status.json").write_text(json.dumps(status))


@pytest.fixture
def jobs(make_config):
    found = [make_config(*TINY, "start=init", "pruner=snip", f"seed={seed}") for seed in range(6)]
    return [(c, RunFolder(identify(c).folder(c.output_root))) for c in found]


def test_the_line_counts_and_tells_the_time_left(jobs):
    told(jobs[0][1], "failed", 0)  # of an earlier life: it is to be done again
    watch = Watch(jobs, Past(), before=4)
    watch.look()
    assert watch.line(0) == "4 of 10 runs done"
    told(jobs[0][1], "done", 1000, 1030)
    told(jobs[1][1], "done", 1000, 1050)
    told(jobs[2][1], "failed", 1000, 1001)
    told(jobs[3][1], "running", 1050)
    told(jobs[4][1], "running", 1060)
    watch.look()
    # a run takes (30 + 50) / 2 = 40 s; at 1070 those at work need 20 and 30 s, the new one 40,
    # and two are done at a time: 90 / 2
    assert watch.left(1070) == 45
    assert watch.line(1070) == (
        "6 of 10 runs done, 1 failed, about 45 s left | snip at 0.9, seed 3, snip at 0.9, seed 4"
    )
    told(jobs[5][1], "done", 1060, 1100)
    watch.look()
    assert watch.left(1070) == 30  # no less than the longest


def test_a_dense_start_takes_time_and_is_not_counted(make_config):
    config = make_config(*TINY, "pruner=snip", "start.train.max_epochs=30")
    folder = RunFolder(identify(config).folder(config.output_root))
    past = Past()
    past.add(config, 20.0)  # of 10 epochs
    dense = dense_start(config)
    assert past.expected(dense) == 60.0  # like it but for the method
    watch = Watch([(config, folder)], past)
    assert watch.left(0) == 80.0
    told(RunFolder(identify(dense).folder(config.output_root)), "running", 0)
    watch.look()
    line = "0 of 1 runs done, about 70 s left | dense start, seed 0"
    assert watch.line(10) == line


def test_what_is_most_like_a_run_says_how_long_it_takes(make_config):
    snip, gmp = (make_config(*TINY, "start=init", f"pruner={name}") for name in ("snip", "gmp"))
    past = Past()
    assert past.expected(snip) is None
    for seconds in (10.0, 20.0, 60.0):
        past.add(snip, seconds)
    assert past.expected(snip) == past.expected(gmp) == 20.0  # the median
    past.add(gmp, 50.0)
    assert past.expected(gmp) == 50.0 and past.expected(snip) == 20.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (7800, "2 h 10 min")],
)
def test_times_are_said_as_one_says_them(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.parametrize("in_bar", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_a_terminal_has_one_line_and_a_log_some(jobs, monkeypatch, capsys, live, in_bar):
    for name, value in (("OFTEN", 0.01), ("FIRST", 0.0)):
        monkeypatch.setattr(sweep_progress, name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: live, raising=False)
    watch, seen = Watch(jobs, Past()), []
    with shown(watch, in_bar):
        told(jobs[0][1], "done", 0, 1)
        while watch.items[0].state != "done" or (live and in_bar and not terminal.suite_words):
            pass
        seen.append(terminal.suite_words)
    found = capsys.readouterr().err
    assert found.rstrip("\n").rpartition("\n")[2].rpartition("\x1b[K")[2] == (
        "1 of 6 runs done after 0 s"
    )
    assert terminal.suite_words == ""
    lines = found.count("\n")
    if live and in_bar:
        assert seen[0].endswith("runs done") or "about" in seen[0]
        assert lines == 1
    elif live:
        assert lines == 1 and "\r\x1b[K" in found and found.count("\r") % 2
    else:
        assert "\r" not in found and 1 <= lines <= 3
