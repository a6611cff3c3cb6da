"""Timing: the median, warm-up left out, ways taking turns."""

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
