"""Timing: the median, warm-up left out, ways taking turns."""

import os
from types import SimpleNamespace

from seven_bench.measure import latency


def test_the_median_of_the_repeats_without_warm_up(monkeypatch):
    ticks = iter([0, 100, 103, 200, 205, 300, 304])  # a warm-up that is not timed; 3, 5 and 4
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert latency.median_seconds({"a": lambda: None}, repeats=3, warm=1) == {"a": 4}


def test_ways_take_turns():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert latency.median_seconds(ways, repeats=2, warm=1).keys() == {"a", "b"}
    assert calls == list("ababab")


def test_the_load_of_others_is_a_number_of_cores():
    busy = latency.busy_cores(0.05)
    assert busy is None or busy >= 0


def test_threads_of_its_own_are_nobody_elses(monkeypatch):
    ticks = iter([0.0, 1.5 * os.sysconf("SC_CLK_TCK")])  # a core and a half for a second
    own = iter([10.0, 11.0])  # of which this process has one
    monkeypatch.setattr(latency, "_busy_ticks", lambda: next(ticks))
    clock = SimpleNamespace(process_time=lambda: next(own), sleep=lambda _: None)
    monkeypatch.setattr(latency, "time", clock)
    assert latency.busy_cores(1.0) == 0.5
