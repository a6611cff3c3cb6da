"""What was predicted, as it is kept: by hand, back again, small, and never damaged unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from seven_bench.store.predictions import (
    FORMAT,
    STEPS,
    Predictions,
    read_predictions,
    write_predictions,
)

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25]])
LABELS = np.array([0, 1, 0])


def draw(examples: int, classes: int) -> Predictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, examples)
    return Predictions.of_classes(labels, rng.dirichlet(np.ones(classes), examples), "some")


def test_classes_by_hand() -> None:
    kept = Predictions.of_classes(LABELS, PROBABILITIES, "three")
    assert kept.columns["predicted"].tolist() == [0, 2, 0]
    assert kept.right.tolist() == [True, False, True]
    near = 0.5 / STEPS
    assert kept.confidence == pytest.approx([0.7, 0.6, 0.5], abs=near)
    assert kept.margin == pytest.approx([0.5, 0.3, 0.25], abs=2 * near)
    # 0.3^2 + 0.2^2 + 0.1^2; 0.1^2 + 0.7^2 + 0.6^2; 0.5^2 + 2 x 0.25^2
    assert kept.brier == pytest.approx([0.14, 0.86, 0.375], abs=2 * near)


@pytest.mark.parametrize("kind", ["class", "many classes", "score", "span"])
def test_what_is_read_is_what_was_written(tmp_path: Path, kind: str) -> None:
    kept = {
        "class": draw(50, 10),
        "many classes": draw(20, 1000),
        "score": Predictions.of_scores([1.0, 2.5], [1.25, -3.0], "two"),
        "span": Predictions.of_spans([3, -1], [9, -1], [1, 0], [1.0, 0.4], "two"),
    }[kind]
    write_predictions(kept, tmp_path / "p.safetensors")
    found = read_predictions(tmp_path / "p.safetensors")
    assert (found.kind, found.items, found.classes) == (kept.kind, kept.items, kept.classes)
    assert found.checksum() == kept.checksum() and len(found) == len(kept)
    for name, array in kept.columns.items():
        assert (found.columns[name] == array).all() and found.columns[name].dtype == array.dtype
    write_predictions(found, tmp_path / "q.safetensors")
    again = (tmp_path / name for name in ("p.safetensors", "q.safetensors"))
    assert len({path.read_bytes() for path in again}) == 1


@pytest.mark.parametrize(("classes", "bytes_each"), [(2, 8), (256, 8), (257, 10), (1000, 10)])
def test_ten_bytes_an_example_at_most(tmp_path: Path, classes: int, bytes_each: int) -> None:
    kept = draw(4_000, classes)
    assert sum(array.nbytes for array in kept.columns.values()) == bytes_each * 4_000
    write_predictions(kept, tmp_path / "p.safetensors")
    assert (tmp_path / "p.safetensors").stat().st_size < bytes_each * 4_000 + 1_000


def test_digits_take_under_four_kilobytes(tmp_path: Path) -> None:
    write_predictions(draw(359, 10), tmp_path / "p.safetensors")
    assert (tmp_path / "p.safetensors").stat().st_size < 4_000


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        ([0, 1], PROBABILITIES, "do not fit"),
        ([0, 1, 3], PROBABILITIES, "labels from 0 to 3 of 3 classes"),
        ([0, 1, -1], PROBABILITIES, "labels from -1 to 1"),
        (LABELS, PROBABILITIES * np.nan, "not finite"),
        (LABELS, PROBABILITIES * 2, "do not sum to 1"),
        (LABELS, PROBABILITIES[:, :1], "do not fit"),
    ],
)
def test_what_is_no_classification_is_refused(labels, probabilities, words) -> None:
    with pytest.raises(ValueError, match=words):
        Predictions.of_classes(labels, probabilities, "x")


def test_scores_are_not_right() -> None:
    with pytest.raises(ValueError, match="neither right nor wrong"):
        _ = Predictions.of_scores([1.0], [1.0], "one").right


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_predictions(draw(50, 10), path)
    whole = path.read_bytes()
    for place in range(len(whole) - 400, len(whole), 57):  # in the arrays
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            read_predictions(path)
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"p\.safetensors"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "seven_bench.masks/1"}, "its format is not"),
        ({"kind": "rumour"}, "of a kind that is known"),
        ({"kind": "score"}, "of a kind that is known"),
        ({"classes": "-3"}, "number of classes"),
        ({"items": "others"}, "checksum"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict[str, str], words: str) -> None:
    kept = draw(5, 3)
    metadata = {"format": FORMAT, "kind": "class", "items": "some", "classes": "3"}
    metadata["checksum"] = kept.checksum()
    save_file(dict(kept.columns), tmp_path / "p.safetensors", metadata | change)
    with pytest.raises(ValueError, match=words):
        read_predictions(tmp_path / "p.safetensors")
    save_file(dict(kept.columns), tmp_path / "p.safetensors", metadata)
    assert len(read_predictions(tmp_path / "p.safetensors")) == 5


def test_a_reader_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_predictions(draw(5, 3), path)
    assert set(load_file(path)) == {"label", "predicted", "confidence", "runner_up", "brier"}
    code = (
        "import sys\nfrom seven_bench.store.predictions import read_predictions\n"
        f"assert len(read_predictions({str(path)!r})) == 5\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
