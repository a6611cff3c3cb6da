"""The analysis of real runs on digits, and what the page shows of it."""

import json
import shutil
from pathlib import Path

import pytest

from seven_bench.commands import main
from seven_bench.commands.report import write_report
from seven_bench.measure.gradient_noise import noise_floor
from seven_bench.results.sentinel_rows import SENTINELS_FORMAT, read_sentinels
from seven_bench.running.run import run
from seven_bench.running.sentinel_analysis import (
    ORDER_SEED,
    find_runs,
    group_runs,
    held_out_batches,
)
from tests.conftest import SHORT, program


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Three methods at 0.9 with two seeds, from dense starts, and their analysis."""
    root = tmp_path_factory.mktemp("sentinels") / "outputs"
    methods = ("pruner=magnitude,snip,seven_dyn", "sparsity=0.9", "seed=0,1")
    done = program("-m", *methods, f"output_root={root}", *SHORT)
    assert done.returncode == 0, done.stderr
    done = program("sentinels", str(root), "--batches", "6")
    assert done.returncode == 0, done.stderr
    assert "6 batches of 32 from 179 validation examples" in " ".join(done.stdout.split())
    for method in ("magnitude", "snip", "seven_dyn"):
        assert f" {method} " in done.stdout
    return root


def analyses(root: Path) -> dict[tuple[str, int], dict]:
    found = {}
    for path in root.rglob("sentinels.json"):
        record = json.loads((path.parent / "result.json").read_text())
        found[record["pruner"], record["seed"]] = json.loads(path.read_text())
        assert found[record["pruner"], record["seed"]]["mask_hash"] == record["mask_hash"]
    return found


def test_every_pruned_run_has_one(runs):
    found = analyses(runs)
    assert len(found) == 6  # none for the dense starts
    for analysis in found.values():
        assert analysis["format"] == SENTINELS_FORMAT
        assert (analysis["weights"], analysis["kept"]) == (196_608, 19_661)
        assert analysis["start"]["kind"] == "dense" and "/dense/" in analysis["start"]["run_id"]
        assert sum(part["weights"] for part in analysis["deciles"]) == 196_608
        kept = sum(p["sentinels_kept"] + p["temporary_kept"] for p in analysis["deciles"])
        assert kept == 19_661
        assert analysis["cut"]["weights"] == 2 * (19_661 // 2)
        seed = analysis["start"]["run_id"].partition("/seed")[2].partition("-")[0]
        batches = held_out_batches(179, 6, 32, int(seed) + ORDER_SEED)
        assert analysis["noise_floor"] == noise_floor(batches)
        assert 1 / 4 < analysis["noise_floor"] < 1 / 2  # five of one order, one of the next
        top = analysis["deciles"][0]
        assert top["low"] >= analysis["deciles"][1]["high"]


def test_a_debug_run_is_none(make_config, tmp_path):
    done = run(
        make_config(
            "pruner=magnitude", "start=init", "debug=true", "logger=none", "trainer.accelerator=cpu"
        )
    )
    assert (tmp_path / "runs" / done["run_id"] / "result.json").is_file()
    assert find_runs([tmp_path]) == ([], [])


def test_runs_of_a_seed_share_one_pass(runs):
    found, problems = find_runs([runs])
    assert not problems and [len(group) for group in group_runs(found)] == [3, 3]
    shared = analyses(runs)
    for name in ("magnitude", "seven_dyn"):
        for seed in (0, 1):
            assert shared[name, seed]["gsnr"]["all"] == shared["snip", seed]["gsnr"]["all"]
    assert shared["snip", 0]["gsnr"]["all"] != shared["snip", 1]["gsnr"]["all"]


def test_moved_runs_are_analysed_where_they_lie_and_the_same(runs, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs, moved)
    before = analyses(moved)
    for path in moved.rglob("sentinels.json"):
        path.unlink()
    assert main(["sentinels", str(moved), "--batches", "6"]) == 0
    assert analyses(moved) == before


def test_an_analysis_is_kept_unless_its_settings_or_masks_differ(runs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy)
    files = sorted(copy.rglob("sentinels.json"))
    written = [path.stat().st_mtime_ns for path in files]
    assert main(["sentinels", str(copy), "--batches", "6"]) == 0
    assert [path.stat().st_mtime_ns for path in files] == written
    files[0].write_text(files[0].read_text()[:100])  # cut short: detected, and made again
    assert main(["sentinels", str(copy), "--batches", "6"]) == 0
    assert read_sentinels(files[0].parent) is not None
    other = ("--split", "test", "--batch-size", "16")
    assert main(["sentinels", str(copy), "--batches", "6", *other]) == 0
    found = read_sentinels(files[0].parent)
    assert found is not None and found["data"]["split"] == "test"
    assert found["noise_floor"] == pytest.approx(1 / 3)  # six batches of one order


def test_what_is_missing_is_said_and_the_rest_goes_on(runs, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy)
    for path in copy.rglob("sentinels.json"):
        path.unlink()
    (start,) = (copy / "runs/digits/vit_digits/dense").rglob("seed0-*")
    (start / "model.safetensors").unlink()
    assert main(["sentinels", str(copy), "--batches", "6"]) == 1
    damaged, line = capsys.readouterr().err.splitlines()
    assert "model.safetensors is missing" in damaged
    assert "the dense start digits/vit_digits/dense/s0/seed0-" in line and "is not there" in line
    assert {seed for _, seed in analyses(copy)} == {1}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{root}/nowhere"], "no such file or folder"),
        (["{root}/runs/digits/vit_digits/dense"], "no finished, pruned run"),
        (["{root}", "--batch-size", "179"], "a noise floor needs four batches that differ"),
        (["{root}", "--batch-size", "180"], "there is no whole batch"),
    ],
)
def test_what_is_wrong_is_one_line(runs, capsys, arguments, told):
    assert main(["sentinels", *(argument.format(root=runs) for argument in arguments)]) == 1
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_batches_are_full_and_drawn_anew():
    batches = held_out_batches(10, 5, 4, seed=0)
    assert [len(batch) for batch in batches] == [4] * 5
    assert len({*batches[0], *batches[1]}) == 8  # of one order; the next two are of another
    assert batches[:2] != batches[2:4]
    assert batches == held_out_batches(10, 5, 4, seed=0)


def test_the_page_shows_it(runs, tmp_path):
    text = write_report([runs], tmp_path / "report").page.read_text(encoding="utf-8")
    section = text[text.index('id="sentinels-title"') : text.index('id="words-title"')]
    assert section.count('<th scope="row">') == 3
    for method in ("magnitude", "snip", "seven_dyn"):
        assert f'<th scope="row">{method}</th><td>0.9</td>' in section
    assert "6 batches of 32 from 179 validation examples" in section
    floors = [analysis["noise_floor"] for analysis in analyses(runs).values()]
    floor = f"{sum(floors) / len(floors):.3f}"
    assert "dropout off" in section and f"the GSNR is {floor} on average" in section
