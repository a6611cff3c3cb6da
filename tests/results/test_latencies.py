"""Accuracy against measured latency: patterns and small dense models on one chart."""

import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.latencies import list_latencies

from .synthetic import make_record, write_run


def latency(**seconds):
    found = {"threads": 2, "input": "pixel_values 1x1x8x8"}
    for name, value in seconds.items():
        found |= {name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.2 * value}
    return {"latency": found}


@pytest.fixture
def outputs(tmp_path):
    root = tmp_path / "outputs"
    for seed, times in ((0, (0.010, 0.005)), (1, (0.012, 0.006)), (2, (0.011, 0.004))):
        dense, small = times
        for changes in (
            {"pruner": "dense", "efficiency": latency(dense_batch1=dense)},
            {
                "pruner": "snip", "pattern": "head_neuron", "sparsity__target": 0.5,
                "efficiency": latency(dense_batch1=dense, smaller_batch1=small),
                "metric__value": 0.90 + 0.01 * seed,
            },
            {
                "pruner": "magnitude",
                "efficiency": latency(dense_batch1=dense, csr_batch1=2 * dense),
            },
            {
                "pruner": "small_width", "small": {"kind": "width"}, "pattern": None,
                "sparsity__target": 0.5, "efficiency": latency(dense_batch1=0.5 * dense),
            },
        ):  # fmt: skip
            write_run(root, make_record(seed=seed, **changes))
    write_run(root, make_record(pruner="taylor"))  # nobody has timed it
    return root


def test_forms_of_every_pattern_stand_together(outputs):
    (found,) = list_latencies(split_groups(collect([outputs]).records))
    assert found.batches == [1]
    points = {(p.method, p.form): p for p in found.points}
    assert points.keys() == {
        ("dense", "dense"),
        ("small_width", "dense"),
        ("snip \N{MIDDLE DOT} head_neuron", "smaller"),
        ("magnitude", "csr"),
    }
    snip = points["snip \N{MIDDLE DOT} head_neuron", "smaller"]
    assert (snip.n, snip.sparsity) == (3, 0.5) and snip.mean == pytest.approx(0.91)
    time = snip.times[1]
    assert time.median == 0.005 and time.ratio == pytest.approx(2.0)  # 2, 2 and 2.75
    assert (time.low, time.high) == pytest.approx((0.9 * 0.004, 1.2 * 0.006))
    assert points["magnitude", "csr"].times[1].ratio == pytest.approx(0.5)
    assert points["small_width", "dense"].times[1].ratio == pytest.approx(2.0)
    (words,) = found.measured
    assert words == "2 threads, one example pixel_values 1x1x8x8, a small computer"


def test_the_page_has_chart_and_table(outputs, tmp_path):
    text = write_report([outputs], tmp_path / "report").page.read_text()
    assert "measured latency" in text and "milliseconds at batch 1" in text
    assert "5 (3.6 to 7.2)" in text and "<td>2.00x</td>" in text
    assert text.count('<path class="mark"') == 4
    told = (tmp_path / "report/latency.md").read_text("utf-8")
    assert "| 0.5 | smaller | 91.00 ± 1.00 (3) | 5 (3.6 to 7.2) | 2.00x |" in told
    assert ">small_width 0.5</text>" in text, "none beats it"
    assert "<title>magnitude 0.9, csr: " in text and "magnitude 0.9, csr</text>" not in text


def test_nothing_timed_is_no_section(tmp_path):
    write_run(tmp_path / "outputs", make_record())
    text = write_report([tmp_path / "outputs"], tmp_path / "report").page.read_text()
    assert "measured latency" not in text
    assert not (tmp_path / "report/latency.md").exists()
