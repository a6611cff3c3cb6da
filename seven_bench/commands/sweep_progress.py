"""How far a sweep is, in one line: what is done, what failed, the time left, what is at work.

It is read from the folders of the runs, so it is the same under every launcher, on one machine or
many.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from seven_bench import terminal
from seven_bench.settings.identity import dense_start, identify, needs_dense, title_of
from seven_bench.settings.model import Settings
from seven_bench.store.files import STATUS
from seven_bench.store.run_folder import RunFolder

OFTEN = 1.0  # seconds between two looks
SHARE = 50  # looks take no more than one part of so many of the time
FIRST, LAST = 15.0, 300.0  # seconds to the first line of a log, and between later ones at most
NAMED = 3  # runs at work that are named

Kind = tuple[str, ...]


@dataclass(frozen=True)
class Past:
    """Seconds that an epoch took in finished runs, by kinds from the narrowest to all."""

    seconds: dict[Kind, list[float]] = field(default_factory=dict)

    def add(self, settings: Settings, seconds: float) -> None:
        for kind in _kinds(settings):
            self.seconds.setdefault(kind, []).append(seconds / _epochs(settings))

    def expected(self, settings: Settings) -> float | None:
        """Seconds of a run, from the finished ones most like it; None where there are none."""
        found = (self.seconds[kind] for kind in _kinds(settings) if kind in self.seconds)
        each = next(found, None)
        return None if each is None else statistics.median(each) * _epochs(settings)


def _kinds(settings: Settings) -> tuple[Kind, ...]:
    narrow = (settings.task.name, settings.model.name, settings.pruner.name)
    return narrow, narrow[:2], ()


def _epochs(settings: Settings) -> int:
    return max(1, settings.trainer.max_epochs)


@dataclass
class Item:
    """A run that is to be done, and what was last seen of it. `counted`: it was asked for itself;
    else it is one that others begin from.
    """

    settings: Settings
    folder: RunFolder
    counted: bool = True
    changed: int = 0  # when its status was last written, by the file system
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return str(self.status.get("state", "new"))

    def look(self) -> bool:
        """Whether its status was written since the last look; it is read then."""
        try:
            changed = os.stat(self.folder.path / STATUS).st_mtime_ns
        except OSError:
            return False
        if changed == self.changed:
            return False
        self.changed, self.status = changed, self.folder.status()
        return True


class Watch:
    """What is known of the runs that a launcher does.

    Args:
        todo: settings of those runs, with their folders.
        past: of finished ones; those that end are added.
        before: runs of the same suite that were done already.
    """

    def __init__(
        self, todo: Sequence[tuple[Settings, RunFolder]], past: Past, before: int = 0
    ) -> None:
        self.past, self.before, self.workers = past, before, 1
        found = {folder.path: Item(settings, folder) for settings, folder in todo}
        for settings, _ in todo:
            if needs_dense(settings):
                dense = dense_start(settings)
                folder = RunFolder(identify(dense).folder(settings.output_root))
                if folder.path not in found and folder.status().get("state") != "done":
                    found[folder.path] = Item(dense, folder, counted=False)
        self.items = [*found.values()]
        self.several = len({_kinds(item.settings)[1] for item in self.items}) > 1
        for item in self.items:
            item.look()
            item.status = {}  # of an earlier life

    def look(self) -> None:
        for item in self.items:
            if item.look() and item.state == "done":
                ended, began = (item.status.get(key, 0) for key in ("heartbeat", "started"))
                self.past.add(item.settings, max(0.0, ended - began))
        self.workers = max(self.workers, len(self._in("running")))

    def _in(self, state: str, counted: bool = False) -> list[Item]:
        return [i for i in self.items if i.state == state and (i.counted or not counted)]

    def left(self, now: float) -> float | None:
        """Seconds until all are done; None where no run has ended yet."""
        longest = total = 0.0
        for item in self.items:
            if item.state not in ("new", "running"):
                continue
            if (expected := self.past.expected(item.settings)) is None:
                return None
            if item.state == "running":
                expected = max(0.0, expected - (now - float(item.status.get("started", now))))
            longest, total = max(longest, expected), total + expected
        return max(longest, total / self.workers)

    def line(self, now: float) -> str:
        """All of it, in words."""
        done, failed = (len(self._in(state, counted=True)) for state in ("done", "failed"))
        whole = self.before + sum(item.counted for item in self.items)
        words = f"{self.before + done} of {whole} runs done"
        words += f", {failed} failed" if failed else ""
        left = self.left(now)
        words += f", about {in_words(left)} left" if left is not None else ""
        if at_work := self._in("running"):
            words += " | " + ", ".join(map(self._title, at_work[:NAMED]))
            words += f", {len(at_work) - NAMED} more" if len(at_work) > NAMED else ""
        return words

    def _title(self, item: Item) -> str:
        of = f"{item.settings.task.name}, {item.settings.model.name}: " if self.several else ""
        return terminal.printable(of + title_of(item.settings))


def in_words(seconds: float) -> str:
    """A time as one would say it: `50 s`, `8 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if minutes < 90 else f"{hours} h {rest} min"


@contextmanager
def shown(watch: Watch, in_bar: bool) -> Iterator[None]:
    """Within, shows a watch: on a terminal as a line that stays the last, in a log as a line now
    and then.

    Args:
        in_bar: runs draw bars on this terminal; the line is shown by them.
    """
    stop = threading.Event()
    live = sys.stderr.isatty()
    show = threading.Thread(target=_show, args=(watch, stop, live, in_bar), daemon=True)
    began = time.monotonic()
    show.start()
    try:
        yield
    finally:
        stop.set()
        show.join()
        terminal.suite_words = ""
        if live and not in_bar:
            terminal.show_live()
        watch.look()
        words = watch.line(time.time()).partition(" | ")[0].partition(", about")[0]
        print(f"{words} after {in_words(time.monotonic() - began)}", file=sys.stderr, flush=True)


def _show(watch: Watch, stop: threading.Event, live: bool, in_bar: bool) -> None:
    pause, due, wait, said = OFTEN, time.monotonic() + FIRST, FIRST, ""
    while not stop.wait(pause):
        began = time.monotonic()
        watch.look()
        line = watch.line(time.time())
        if in_bar and live:
            terminal.suite_words = line.partition(" | ")[0]
        elif live:
            terminal.show_live(line)
        elif began >= due and line != said:
            print(line, file=sys.stderr, flush=True)
            said, wait = line, min(2 * wait, LAST)
            due = began + wait
        pause = max(OFTEN, SHARE * (time.monotonic() - began))
