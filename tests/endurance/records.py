"""Five thousand made-up records: collected, reported, opened and filtered."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.endurance.sweep import ROOT, environment
from tests.results.browser import CHROMIUM, start_browser
from tests.results.synthetic import FALLS, write_grid

TASKS = ("digits", "cifar10", "sst2", "mrpc", "qnli", "rte", "cola", "mnli")
METHODS = (*FALLS, *(f"method_{number}" for number in range(16)))
LIMIT = 30.0  # seconds for both
PICTURES = ROOT / "outputs" / "endurance"


def check(folder: Path) -> None:
    runs, report = folder / "runs", folder / "report"
    write_grid(runs, tasks=TASKS, methods=METHODS, sparsities=(0.5, 0.7, 0.8, 0.9, 0.95), seeds=6)
    count = sum(1 for _ in runs.rglob("result.json"))
    assert count >= 5000
    collected = _timed("collect", str(runs), "--out", str(folder / "records.parquet"))
    reported = _timed("report", str(runs), "--out", str(report))
    size = (report / "index.html").stat().st_size / 2**20
    print(f"  {count} records: collect {collected:.1f} s, report {reported:.1f} s, {size:.1f} MiB")
    assert collected + reported <= LIMIT, "collect and report take too long"
    if CHROMIUM is None:
        print("  playwright or Chromium is not installed: the page was not opened")
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    with start_browser() as browser:
        for width, height in ((1280, 900), (390, 844)):
            for dark in (False, True):
                began = time.perf_counter()
                browser.open(report / "index.html", width=width, height=height, dark=dark)
                status = "document.getElementById('status').textContent"
                assert browser.until(f"{status}.startsWith('Showing')"), "nothing is shown"
                opened = time.perf_counter() - began
                began = time.perf_counter()
                browser.run(
                    "(e => {e.value = 'rte'; e.dispatchEvent(new Event('change', "
                    "{bubbles: true}))})(document.getElementById('task'))"
                )
                assert browser.until(f"{status}.startsWith('Showing rte')"), "no filter"
                filtered = time.perf_counter() - began
                name = f"records-{width}-{'dark' if dark else 'light'}.png"
                browser.screenshot(PICTURES / name)
                print(f"  {name}: opened in {opened:.2f} s, filtered in {filtered:.2f} s")
        assert browser.messages == [], browser.messages[:2]


def _timed(verb: str, *arguments: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "seven_bench", verb, *arguments],
        capture_output=True, text=True, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return time.perf_counter() - began
