"""Texts and numbers that mean harm in the files beside a record: `sentinels.json`, predictions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.sentinel_rows import tabulate_sentinels
from seven_bench.store.files import PREDICTIONS, SENTINELS
from seven_bench.store.predictions import Predictions, read_predictions, write_predictions
from tests.results.synthetic import make_record, write_run
from tests.results.test_sentinel_rows import analysis

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
HTML = "</p><script>alert(1)</script><img src=x onerror=alert(1)>"
#: In `sentinels.json`: where, what, and words of the reason.
ODD: dict[str, tuple[str, Any, str]] = {
    "a terminal escape in the split": ("data.split", ESCAPE, "data.split is "),
    "a terminal escape in the start": ("start.kind", ESCAPE, "start.kind is "),
    "a terminal escape in a field of its own": ("mine", [ESCAPE], "which holds a control"),
    "a terminal escape as a key": ("gsnr." + ESCAPE, 1, "has the key"),
    "a lone surrogate": ("data.split", "a\ud800", "data.split is "),
    "a lone surrogate in the mask's hash": ("mask_hash", "a\udfff", "mask_hash is "),
    "text turned round": ("data.split", "a\u202eb", "which holds a control character"),
    "a megabyte": ("start.kind", "x" * 2**20, "of 1,048,576 characters"),
    "a thousand characters": ("start.kind", "x" * 1000, "has start.kind "),
    "no text": ("data.split", 3, "has data.split 3"),
    "an empty text": ("data.split", "", 'has data.split ""'),
    "a list for a mean": ("gsnr.kept.mean", [1], "has gsnr.kept.mean [1]"),
    "text for a mean": ("c.kept.mean", "much", "has c.kept.mean"),
    "text for the floor": ("noise_floor", "0.5", "has noise_floor"),
    "NaN": ("noise_floor", float("nan"), "noise_floor is NaN"),
    "infinity": ("gsnr.by_sensitivity.mean", float("inf"), "mean is infinite"),
    "10^400": ("cut.sentinels", 10**400, "cut.sentinels is too large"),
    "a negative count": ("cut.sentinels_kept", -1, "has cut.sentinels_kept -1"),
    "true for a count": ("data.batches", True, "has data.batches true"),
    "half a batch": ("data.batches", 0.5, "has data.batches 0.5"),
    "null for the data": ("data", None, "has data null"),
    "no dropout": ("data.dropout", "<b>", "has data.dropout"),
    "deep": ("mine", json.loads("[" * 50 + "]" * 50), "nested deeper"),
}


def put(place: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(analysis())
    *path, last = place.split(".") if ESCAPE not in place else place.split(".", 1)
    inside: Any = content
    for name in path:
        inside = inside[name]
    inside[last] = value
    return content


@pytest.mark.parametrize("name", ODD)
def test_an_analysis_that_is_none_is_named_and_left_out(name: str, tmp_path: Path) -> None:
    place, value, words = ODD[name]
    folder = write_run(tmp_path, make_record())
    (folder / SENTINELS).write_text(json.dumps(put(place, value)))
    tables, damaged = tabulate_sentinels(split_groups(collect([tmp_path]).records))
    ((path, reason),) = damaged
    assert not tables and path == folder / SENTINELS
    assert words in reason and "\n" not in reason and len(reason) < 400
    assert "\x1b" not in reason
    reason.encode()  # can be printed


def test_files_that_are_none(tmp_path: Path) -> None:
    for seed, content in enumerate((b"\xff\xfe", b"[" * 100_000, b"9" * 5000)):
        folder = write_run(tmp_path, make_record(seed=seed))
        (folder / SENTINELS).write_bytes(content)
    folder = write_run(tmp_path, make_record(seed=9))
    (folder / SENTINELS).symlink_to("/dev/zero")
    tables, damaged = tabulate_sentinels(split_groups(collect([tmp_path]).records))
    assert not tables and len(damaged) == 4
    assert all("\n" not in reason for _, reason in damaged)


def test_html_is_text_on_the_page(tmp_path: Path) -> None:
    """It can be printed, so it is shown: as what it is."""
    folder = write_run(tmp_path / "runs", make_record())
    content = put("data.split", f"[bold]{HTML}[/bold]")
    content["start"]["kind"] = HTML
    (folder / SENTINELS).write_text(json.dumps(content))
    bad = write_run(tmp_path / "runs", make_record(seed=1))
    (bad / SENTINELS).write_text(json.dumps(put("data.batches", HTML)))
    page = write_report([tmp_path / "runs"], tmp_path / "report").page.read_text()
    assert "sentinels-title" in page and "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page and "<img src=x" not in page


def of_classes(**changes: Any) -> Predictions:
    found = Predictions.of_classes([0, 1, 2, 0], np.eye(3)[[0, 1, 1, 2]], "digits test abc")
    columns = {**found.columns, **changes.pop("columns", {})}
    fields = {"kind": found.kind, "items": found.items, "classes": 3, **changes}
    return Predictions(fields["kind"], fields["items"], columns, fields["classes"])


#: Predictions whose maker has given them a checksum, and words of the reason.
HOSTILE = {
    "a terminal escape": (of_classes(items=ESCAPE), "none that can be printed"),
    "a line break": (of_classes(items="a\nb"), "none that can be printed"),
    "a million characters": (of_classes(items="x" * 10**6), "none that can be printed"),
    "another kind": (of_classes(kind=HTML), "no predictions of a kind that is known"),
    "a class too many": (of_classes(classes=2), "it has a class 2 of 2"),
    "no class": (of_classes(classes=0), "it has a class 2 of 0"),
    "a million classes": (of_classes(classes=10**6), "its number of classes is '1000000'"),
    "classes below none": (of_classes(classes=-1), "its number of classes is '-1'"),
    "a second before the first": (
        of_classes(columns={"runner_up": np.full(4, 65_535, np.uint16),
                            "confidence": np.full(4, 9, np.uint16)}),
        "a second probability is larger than the first",
    ),
    "complex": (
        of_classes(columns={"label": np.zeros(4, np.int64)}), "label is int64 (4,)"
    ),
    "of another length": (
        of_classes(columns={"label": np.zeros(5, np.uint8)}), "arrays are of different lengths"
    ),
    "more than a row": (
        of_classes(columns=dict.fromkeys(
            ("label", "predicted", "confidence", "runner_up", "brier"), np.zeros((2, 2), np.uint8)
        )),
        "is uint8 (2, 2)",
    ),
    "a score that is none": (
        Predictions.of_scores([1.0, np.nan], [1.0, 2.0], "a"), "a score is not finite"
    ),
    "infinite": (Predictions.of_scores([1.0, 1.0], [1.0, np.inf], "a"), "a score is not finite"),
    "more than exact": (
        Predictions.of_spans([0], [1], [7], [1.0], "a"), "exact is neither 0 nor 1"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_predictions_that_are_none_are_named(name: str, tmp_path: Path) -> None:
    found, words = HOSTILE[name]
    path = tmp_path / PREDICTIONS
    write_predictions(found, path)
    with pytest.raises(ValueError, match=PREDICTIONS) as error:
        read_predictions(path)
    told = str(error.value)
    assert words in told and "\n" not in told and "\x1b" not in told and len(told) < 500


def test_half_a_character_cannot_be_stored(tmp_path: Path) -> None:
    """Its header is UTF-8: what is no text there is no file of ours."""
    path = tmp_path / PREDICTIONS
    write_predictions(of_classes(), path)
    content = path.read_bytes()
    for half in (b"\\ud800     ", b"\xed\xa0\x80        "):
        path.write_bytes(content.replace(b"digits test", half[:11]))
        with pytest.raises(ValueError, match=PREDICTIONS) as error:
            read_predictions(path)
        assert "\n" not in str(error.value)
