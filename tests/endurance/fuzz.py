"""Records, configs of runs and Parquet files changed at random: no traceback, no hang, no lie.

`python -m tests.endurance fuzz --minutes 30 --seed 0`. A case is made from its number alone, so
that what is found is found again: `python -m tests.endurance fuzz --case 1234`.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import yaml

from seven_bench.store import files
from tests.hostile.runs import EVERY, write_whole

HANG = 30.0  # seconds of processor time a case may take; it takes milliseconds
WAITS = 20  # times as long it may take by the clock: other work is none of its business
MINUTES = 2.0
WORDS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "..", "a/b", "\x1b[2J", "\ud800", "=1+1", "~", "0.9", "nan", "y" * 10**5,
    [], [1], {}, {"a": 1}, {"_target_": "os.system"}, {"": None}, [[[[]]]],
)  # fmt: skip


def change_bytes(content: bytes, chance: random.Random) -> bytes:
    """Up to four changes: bits turned over, a part cut, repeated, zeroed, moved or made up."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        at = chance.randrange(len(data))
        end = min(len(data), at + chance.choice((1, 2, 8, 64, 512)))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:end] = bytes(end - at)
            case 4:
                data[at:end] = chance.randbytes(end - at)
            case _:
                del data[at:]
    return bytes(data)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a nested value with each of its keys."""
    items = enumerate(value) if isinstance(value, list) else value.items()
    found = []
    for key, item in items:
        found.append((value, key))
        if isinstance(item, dict | list):
            found += places(item)
    return found


def change_values(value: Any, chance: random.Random) -> Any:
    """Up to three values replaced, removed, added, or put in another's place."""
    value = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        known = places(value)
        if not known:
            break
        holder, key = chance.choice(known)
        match chance.randrange(4):
            case 0 | 1:
                holder[key] = copy.deepcopy(chance.choice(WORDS))
            case 2:
                del holder[key]
            case _:
                other, name = chance.choice(known)
                item = copy.deepcopy(other[name] if name in _keys(other) else None)
                new = chance.choice((str(key), "added", "a.b", "_target_"))
                if isinstance(holder, dict):
                    holder[chance.choice((key, new))] = item
                else:
                    holder.append(item)
    return value


def _keys(holder: Any) -> Any:
    return range(len(holder)) if isinstance(holder, list) else holder.keys()


def one_line(error: Exception, place: str) -> None:
    told = str(error)
    assert "\n" not in told, f"several lines: {told!r}"
    assert place in told, f"no file is named: {told}"


def seal(folder: Path, record: dict[str, Any]) -> None:
    """A record as whoever changed it may seal it."""
    from seven_bench.store.integrity import fingerprints
    from seven_bench.store.record import _digest

    integrity = record.get("integrity")
    if isinstance(integrity, dict):
        try:
            integrity["files"] = fingerprints(folder)
            integrity["record"] = _digest(record)
        except (ValueError, TypeError, RecursionError):
            integrity["record"] = "0" * 64
    (folder / files.RECORD).write_text(json.dumps(record))


class Fuzz:
    """Sound files in a folder of its own, and one kind of case a method."""

    def __init__(self, folder: Path) -> None:
        from seven_bench.store.record import read_record
        from tests.data.synthetic import write_glue

        self.root = folder / "runs"
        self.good = write_whole(self.root / "good", seed=1)
        self.record = read_record(self.good / files.RECORD)
        self.spare = write_whole(folder / "spare", seed=2)
        self.other = read_record(self.spare / files.RECORD)
        self.config = _composed()
        self.data = folder / "data"
        write_glue(self.data, "mrpc", train=20, dev=6)
        self.table = self.data / "glue" / "mrpc" / "train.parquet"
        self.parquet = self.table.read_bytes()
        self.reported = folder / "report"

    def case(self, number: int) -> str:
        """Tries one; returns its kind. Raises whatever the program lets through."""
        chance = random.Random(number)
        kinds: tuple[Callable[[random.Random], None], ...] = (
            self.file_under_seal, self.figure_under_seal, self.sealed_record, self.sealed_record,
            self.sealed_config, self.sealed_config, self.parquet_bytes, self.parquet_values,
        )  # fmt: skip
        kind = chance.choice(kinds)
        kind(chance)
        return kind.__name__

    def _copy(self) -> Path:
        folder = self.root / "odd"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.spare, folder)
        return folder

    def _collect(self) -> Any:
        """What readers say: the good run is always there, unaltered."""
        from seven_bench.results.collect import collect

        found = collect([self.root])
        rows = found.records.set_index("folder")
        assert str(self.good) in rows.index, "the good run is gone"
        assert rows.loc[str(self.good), "metric.value"] == self.record["metric"]["value"]
        for _, reason in found.damaged:
            assert "\n" not in reason, f"several lines: {reason!r}"
            assert len(reason) < 1000, f"{len(reason)} characters"
            reason.encode()
        return rows

    def file_under_seal(self, chance: random.Random) -> None:
        """Bytes of a file: a reader of all of it says so, whatever they are."""
        from seven_bench.store.finished import RunError, open_run

        folder = self._copy()
        path = folder / chance.choice(EVERY)
        before = path.read_bytes()
        path.write_bytes(change_bytes(before, chance))
        rows = self._collect()
        if str(folder) in rows.index:
            assert rows.loc[str(folder), "metric.value"] == self.other["metric"]["value"]
        try:
            run = open_run(folder, weights=True)
        except RunError:
            return
        same = path.read_bytes() == before
        assert same or (path.name == files.RECORD and run.record == self.other), path.name

    def figure_under_seal(self, chance: random.Random) -> None:
        """Values of a record, its seal as it was: an altered one is never shown."""
        folder = self._copy()
        record = change_values(self.other, chance)
        (folder / files.RECORD).write_text(json.dumps(record))
        rows = self._collect()
        if str(folder) in rows.index:
            seen = json.loads((folder / files.RECORD).read_text())
            assert json.dumps(seen, sort_keys=True) == json.dumps(self.other, sort_keys=True), (
                "altered under its seal, and shown"
            )

    def sealed_record(self, chance: random.Random) -> None:
        """Values of a record that is sealed anew; now and then through the whole report."""
        folder = self._copy()
        seal(folder, change_values(self.other, chance))
        rows = self._collect()
        if chance.random() < 0.03:
            from seven_bench.commands.report import write_report

            write_report([self.root], self.reported)
            shown = (self.reported / "table.md").read_text() + str(len(rows))
            assert "\x1b" not in shown

    def sealed_config(self, chance: random.Random) -> None:
        """A run's config, sealed anew: settings, or one line that says why not."""
        from seven_bench.errors import ConfigError
        from seven_bench.settings.checks import stored
        from seven_bench.store.finished import RunError, open_run

        folder = self._copy()
        if chance.random() < 0.3:
            text = change_bytes(self.config, chance)
        else:
            text = _dump(change_values(yaml.safe_load(self.config), chance))
        (folder / files.CONFIG).write_bytes(text)
        seal(folder, copy.deepcopy(self.other))
        try:
            open_run(folder)
        except RunError as error:
            one_line(error, str(folder))
        try:
            stored(folder)
        except ConfigError as error:
            one_line(error, str(folder))
        self._collect()

    def parquet_bytes(self, chance: random.Random) -> None:
        """Bytes of a data set's file."""
        self.table.write_bytes(change_bytes(self.parquet, chance))
        self._load()

    def parquet_values(self, chance: random.Random) -> None:
        """Rows of a data set that are no texts, or no labels."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        odd: tuple[Any, ...] = ("", "\x1b[2J", "long " * 5000, "x", None, 1, 0.5, -7, 2**40, [1])
        pq.read_table(pa.BufferReader(self.parquet))
        columns: dict[str, Any] = {
            "sentence1": [f"film {n}" for n in range(20)],
            "sentence2": [f"plot {n}" for n in range(20)],
            "label": [n % 2 for n in range(20)],
        }
        name = chance.choice(list(columns))
        word = chance.choice(odd)
        if chance.random() < 0.15:
            del columns[name]
        elif chance.random() < 0.5 or not isinstance(word, type(columns[name][0]) | None):
            columns[name] = [word] * 20
        else:
            columns[name][chance.randrange(20)] = word
        if chance.random() < 0.1:
            columns = {name: column[:1] for name, column in columns.items()}
        pq.write_table(pa.table(columns), self.table)
        self._load()

    def _load(self) -> None:
        from seven_bench.data.glue import GlueData
        from seven_bench.errors import ConfigError

        folder = self.table.parent
        parts = {split: folder / f"{split}.parquet" for split in ("train", "validation")}
        data = GlueData(
            seed=0, batch_size=8, files=parts, tokenizer="data", max_length=16, vocabulary=100,
            columns=["sentence1", "sentence2"],
        )  # fmt: skip
        try:
            data.setup()
        except ConfigError as error:
            one_line(error, ".parquet")
            return
        for batch in data.train_dataloader():
            assert int(batch["labels"].min()) >= 0


def _composed() -> bytes:
    from hydra import compose, initialize_config_dir

    from seven_bench.settings.checks import checked
    from seven_bench.settings.conf import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = checked(compose("config", overrides=["pruner=seven_dyn", "logger=none"]))
    return _dump(settings.plain())


def _dump(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=False).encode("utf-8", "surrogatepass")


def work(folder: Path, first: int, wire: Connection) -> None:
    """A process of cases, from number `first` on: each is told before it is begun and after."""
    os.environ["SEVEN_BENCH_CACHE"] = str(folder / "cache")
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.chdir(folder)
    fuzz = Fuzz(folder)
    number = first
    while True:
        wire.send((number, "", None))
        try:
            kind, fault = fuzz.case(number), None
        except Exception:
            kind, fault = "", traceback.format_exc(limit=-4)
        wire.send((number, kind, fault))
        number += 1


def check(folder: Path, minutes: float = MINUTES, seed: int = 0) -> None:
    """As many cases as there is time for. Asserts that none has failed."""
    end = time.monotonic() + 60 * minutes
    counts: Counter[str] = Counter()
    faults: list[str] = []
    context = multiprocessing.get_context("spawn")
    number, lives = seed * 10_000_000, 0
    while time.monotonic() < end:
        lives += 1
        place = folder / f"life{lives}"
        place.mkdir()
        wire, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(place, number, theirs), daemon=True)
        process.start()
        theirs.close()
        begun = False
        while time.monotonic() < end:
            fault = None
            try:
                if not _answers(process.pid, wire, HANG if begun else 4 * HANG):
                    fault = f"hangs for {HANG:.0f} s"
                else:
                    number, kind, fault = wire.recv()
                    begun = True
                    counts[kind] += bool(kind)
            except EOFError:
                process.join()
                fault = f"ended the process: {process.exitcode}"
                assert begun, "no case could be begun"
            if fault:
                faults.append(f"case {number}: {fault}")
                print(f"  case {number}: {fault}", flush=True)
                if "Traceback" not in fault:
                    break
        process.kill()
        process.join()
        number += 1
        shutil.rmtree(place, ignore_errors=True)
    told = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()) if kind)
    print(f"  {counts.total():,} cases without a fault ({told}); {len(faults)} with one")
    assert not faults, f"{len(faults)} cases, the first: {faults[0]}"


def _answers(process: int, wire: Connection, seconds: float) -> bool:
    """Whether something comes from the process before it has computed for so long."""
    watched = psutil.Process(process)
    before, end = sum(watched.cpu_times()[:2]), time.monotonic() + WAITS * seconds
    while not wire.poll(1.0):
        try:
            used = sum(watched.cpu_times()[:2]) - before
        except psutil.Error:
            return True  # it has ended, which the next look at the wire says
        if used > seconds or time.monotonic() > end:
            return False
    return True


def again(folder: Path, number: int) -> None:
    """One case, to look into."""
    os.environ["SEVEN_BENCH_CACHE"] = str(folder / "cache")
    print(f"  case {number}: {Fuzz(folder).case(number)}")
