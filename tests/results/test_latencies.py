"""Accuracy against measured latency: patterns and small dense models on one chart."""

import csv
import io
from xml.etree import ElementTree

import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.latencies import list_latencies

from .browser import CHROMIUM, start_browser
from .synthetic import make_record, write_run
from .test_browser import saved

CHART = "#latency-0-1"


def latency(**seconds):
    found = {"threads": 2, "input": "pixel_values 1x1x8x8"}
    if "csr_batch1" in seconds:
        found["csr_layers"] = "12 csr, 6 compacted"
    for name, value in seconds.items():
        found |= {name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.2 * value}
    return {"latency": found}


CHOSEN = {
    "layers": [
        {"layers": "layers.0-5.fc1", "count": 6, "rows": 64, "form": "compacted", "dense": 1.0},
        {"layers": "layers.0-5.fc2", "count": 6, "rows": 64, "form": "csr", "dense": 1.0},
        {"layers": "layers.0-5.qkv", "count": 6, "rows": 64, "form": "csr", "dense": 2.0},
    ]
}
TAKEN = "compacted layers.0-5.fc1; csr layers.0-5.fc2, layers.0-5.qkv"


@pytest.fixture
def outputs(tmp_path):
    root = tmp_path / "outputs"
    for seed, times in ((0, (0.010, 0.005)), (1, (0.012, 0.006)), (2, (0.011, 0.004))):
        dense, small = times
        for changes in (
            {
                "pruner": "dense",
                "efficiency": latency(dense_batch1=dense, onednn_batch1=0.4 * dense),
            },
            {
                "pruner": "snip", "pattern": "head_neuron", "sparsity__target": 0.5,
                "efficiency": latency(dense_batch1=dense, smaller_batch1=small),
                "metric__value": 0.90 + 0.01 * seed,
            },
            {
                "pruner": "magnitude",
                "efficiency": CHOSEN | latency(dense_batch1=dense, csr_batch1=2 * dense),
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
        ("dense", "onednn"),
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
    assert points["dense", "onednn"].times[1].ratio == pytest.approx(2.5)
    csr = points["magnitude", "csr"]
    assert (csr.layers, csr.taken) == ("12 csr, 6 compacted", TAKEN)
    (words,) = found.measured
    assert words == "2 threads, one example pixel_values 1x1x8x8, a small computer"


def test_the_page_has_chart_and_table(outputs, tmp_path):
    text = write_report([outputs], tmp_path / "report").page.read_text()
    assert "measured latency" in text and 'id="latency-0-1"' in text
    assert "5 (3.6 to 7.2)" in text and "<td>2.00x</td>" in text
    assert f"<li>magnitude 0.9, csr: {TAKEN}</li>" in text
    told = (tmp_path / "report/latency.md").read_text("utf-8")
    cells = "| 0.5 | smaller | \N{EN DASH} | 91.00 ± 1.00 (3) | 5 (3.6 to 7.2) | 2.00x |"
    assert cells in told
    assert "| csr | 12 csr, 6 compacted |" in told
    assert f"* magnitude 0.9, csr: {TAKEN}" in told


@pytest.mark.skipif(CHROMIUM is None, reason="needs playwright, and Chromium")
def test_the_chart_is_reached_by_keyboard_and_saved(outputs, tmp_path):
    report = write_report([outputs], tmp_path / "report")
    with start_browser() as page:
        page.open(report.page)
        labels = page.run(f"[...document.querySelectorAll('{CHART} .point')].map(p => p.ariaLabel)")
        assert len(labels) == 5
        assert any(label.startswith("magnitude 0.9, csr: ") for label in labels)
        names = page.run(f"[...document.querySelectorAll('{CHART} .name')].map(n => n.textContent)")
        assert "dense, onednn" in names and "magnitude 0.9, csr" not in names, "unbeaten alone"
        assert page.run(f"document.querySelectorAll('{CHART} .point[tabindex=\"0\"]').length") == 1
        page.run(f"document.querySelector('{CHART} .point[tabindex=\"0\"]').focus()")
        first = page.run("document.activeElement.ariaLabel")
        page.press("ArrowRight", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown")
        assert page.run("document.activeElement.matches('.point')")
        assert first in labels and page.run("!document.querySelector('.tip').hidden")
        rows = list(csv.DictReader(io.StringIO(saved(page, CHART, "CSV"))))
        assert len(rows) == 5
        (sparse,) = (row for row in rows if row["form"] == "csr")
        assert sparse["layers"] == "12 csr, 6 compacted" and float(sparse["dense / it"]) == 0.5
        assert float(sparse["ms"]) == pytest.approx(22)
        drawn = ElementTree.fromstring(saved(page, CHART, "SVG"))
        assert drawn.tag.endswith("svg")
        assert r"\toprule" in saved(page, CHART, "LaTeX")
        assert "start" in page.run(f"document.querySelector('{CHART}').dataset.title")
        assert page.messages == []


def test_nothing_timed_is_no_section(tmp_path):
    write_run(tmp_path / "outputs", make_record())
    text = write_report([tmp_path / "outputs"], tmp_path / "report").page.read_text()
    assert "measured latency" not in text
    assert not (tmp_path / "report/latency.md").exists()
