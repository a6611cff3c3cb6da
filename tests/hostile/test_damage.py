"""Every reader x every file of a run x cut, flipped, emptied, removed, swapped, replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seven_bench.commands import main
from seven_bench.results.collect import find_finished
from seven_bench.store import files
from seven_bench.store.finished import RunError, open_run
from seven_bench.store.run_folder import RunFolder

from .runs import DAMAGES, EVERY, write_whole

#: Damage to weights of equal size is seen by who reads them.
IN_FULL = {(name, "flip") for name in files.LARGE}
CASES = [(name, damage) for name in EVERY for damage in DAMAGES]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run, and one with each damage."""
    root = tmp_path_factory.mktemp("damaged")
    sound = write_whole(root / "sound", seed=1)
    for number, (name, damage) in enumerate(CASES, start=2):
        folder = write_whole(root / f"{name}-{damage.__name__}", seed=number)
        damage(folder / name, sound / name)
    return root


def unseen(told: str, root: Path, in_full: bool) -> list[str]:
    """The damages that a reader has not named, with the file."""
    missed = []
    for name, damage in CASES:
        folder = f"{root}/{name}-{damage.__name__}"
        lines = [line for line in told.splitlines() if folder in line]
        if name == files.RECORD and f"not finished: {folder}" in told:
            continue
        named = any(name in line.partition(damage.__name__)[2] for line in lines)
        # of a swapped record it is the files that do not fit
        named = named or (bool(lines) and (name, damage.__name__) == (files.RECORD, "swap"))
        if not (named or ((name, damage.__name__) in IN_FULL and not in_full)):
            missed.append(f"{name} {damage.__name__}")
    return missed


@pytest.mark.parametrize("verb", ["report", "collect", "compare"])
def test_each_damage_is_named_and_the_sound_run_is_read(
    verb: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "report": [str(root), "--out", str(tmp_path / "report")],
        "collect": [str(root), "--out", str(tmp_path / "records.csv")],
        "compare": ["dense", str(root)],
    }[verb]
    assert main([verb, *arguments]) == 0
    told = capsys.readouterr()
    missed = unseen(told.err, root, in_full=False)
    gone = f"{files.RECORD} remove"  # the report alone tells of runs without a record
    assert missed == ([] if verb == "report" else [gone])
    assert f"{root}/sound" not in told.err
    if verb == "report":
        assert "3 runs" in told.out  # those with a bit of their weights turned over are two more
        page = (tmp_path / "report" / "index.html").read_text()
        assert page.count("does not fit its checksum") >= 3


def test_export_and_sentinels_see_it_too(root: Path) -> None:
    runs, problems = find_finished([root])
    assert unseen("\n".join(problems), root, in_full=False) == [f"{files.RECORD} remove"]
    assert root / "sound" in [run.folder for run in runs]


def str_of(value: object) -> str:
    return str(getattr(value, "__name__", value))


Reader = Callable[[Path], None]


def _skip(folder: Path) -> None:
    if RunFolder(folder).record(weights=True) is None:
        raise ValueError(RunFolder(folder).damage(weights=True) or "there is no record")


def _start(folder: Path) -> None:
    open_run(folder, weights=True).weights()


@pytest.mark.parametrize("read", [_skip, _start], ids=["already done?", "start, round, export"])
@pytest.mark.parametrize(
    ("name", "damage"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_who_reads_weights_sees_every_bit(
    read: Reader, name: str, damage: Callable[[Path, Path], None], root: Path
) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        read(root / f"{name}-{damage.__name__}")
    told = str(error.value)
    assert name in told or "there is no record" in told or name == files.RECORD
    read(root / "sound")


def test_masks_and_weights_that_no_seal_covers_are_still_checked(tmp_path: Path) -> None:
    folder = write_whole(tmp_path / "run")
    run = open_run(folder)
    for name, read in ((files.MASKS, run.masks), (files.MODEL, run.weights)):
        (folder / name).write_bytes((folder / name).read_bytes()[:-3])
        with pytest.raises(RunError, match=name) as error:
            read()
        assert str(error.value).count(str(folder)) == 1
