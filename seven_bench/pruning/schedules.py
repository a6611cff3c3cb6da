"""Schedules: the target sparsity as a function of the step.

A step is an optimizer step for a method that prunes during training and a calibration batch for
one that prunes before it. Times are "120it" (steps), "2ep" (epochs) or a fraction of all steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

Time = str | int | float
TIMES = "'120it', '2ep' or a fraction in [0, 1]"


def steps_of(time: Time, total: int, epoch: int) -> int:
    """A time in steps. `total`: all steps; `epoch`: steps in an epoch.

    Raises: ValueError when the time is none of "120it", "2ep", a fraction in [0, 1].
    """
    if isinstance(time, str):
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(it|ep)", time.strip())
        if match:
            return round(float(match[1]) * (epoch if match[2] == "ep" else 1))
    elif isinstance(time, (int, float)) and not isinstance(time, bool) and 0 <= time <= 1:
        return round(time * total)
    raise ValueError(f"time {time!r}: allowed are {TIMES}")


def check_time(name: str, time: Time | None, least: int = 0) -> None:
    """What can be known of a time before steps are counted; None is allowed.

    Raises: ValueError, with the schedule's key.
    """
    try:
        known = time is None or steps_of(time, 10**9, 10**9) >= least
    except ValueError:
        known = False
    if not known:
        above = ", above 0" if least else ""
        raise ValueError(f"schedule.{name}={time!r}: allowed are {TIMES}{above}")


@dataclass(frozen=True)
class Plan:
    """A schedule laid over a known number of steps; steps are counted from 1, after they are done.

    Scores are observed in steps `observe_from + 1` and later, until the last update; masks are
    updated after steps `start + every`, `start + 2 every`, ..., `count` times, and after each of
    the `hold` steps that follow, at the final sparsity. `span` is how many steps the schedule was
    given, where that is more than `reached`. With a `window` only so many steps before an update
    are observed.
    """

    observe_from: int
    start: int
    every: int
    count: int
    hold: int = 0
    span: int = 0
    window: int = 0

    @property
    def reached(self) -> int:
        """The step after which the final sparsity is reached."""
        return self.start + self.every * self.count

    @property
    def end(self) -> int:
        """The step after which the last update is made."""
        return self.reached + self.hold

    def progress(self, step: int) -> float:
        """The fraction of the schedule that is done after a step, in [0, 1]."""
        return min(1.0, step / max(self.reached, self.span))

    def observes(self, step: int) -> bool:
        if not self.observe_from < step <= self.end:
            return False
        first = self.start + self.every
        ahead = first - step if step < first else (first - step) % self.every
        return self.window == 0 or step > self.reached or ahead < self.window

    def update_at(self, step: int) -> int | None:
        """The index (from 0) of the update that follows this step, or None."""
        if self.reached < step <= self.end:
            return self.count - 1
        index, rest = divmod(step - self.start, self.every)
        return index - 1 if rest == 0 and 1 <= index <= self.count else None


class Schedule(Protocol):
    """A shape over pruning steps, and where in all steps they lie."""

    name: ClassVar[str]

    def plan(self, total: int, epoch: int) -> Plan:
        """Lays the schedule over `total` steps, `epoch` steps an epoch.

        Raises: ValueError when it cannot finish, with both numbers.
        """
        ...

    def sparsity(self, index: int, count: int, final: float) -> float:
        """Fraction removed after update `index` (from 0) of `count`; `final` after the last."""
        ...

    def density(self, index: int, count: int, final: float) -> float:
        """The fraction that stays, as a published rule computes it where it truncates counts."""
        ...


@dataclass(frozen=True)
class OneShot:
    """All at once, after step `at` (default: after the last)."""

    at: Time = 1.0
    name: ClassVar[str] = "one_shot"

    def __post_init__(self) -> None:
        check_time("at", self.at, least=1)

    def plan(self, total: int, epoch: int) -> Plan:
        at = steps_of(self.at, total, epoch)
        if not 1 <= at <= total:
            raise ValueError(f"schedule.at={self.at!r} is step {at}, but there are {total} steps")
        return Plan(observe_from=0, start=at - 1, every=1, count=1)

    def sparsity(self, index: int, count: int, final: float) -> float:
        return final

    def density(self, index: int, count: int, final: float) -> float:
        return 1 - final


@dataclass(frozen=True)
class _Gradual:
    """`steps` steps of pruning after `start`, with an update every `every` steps (or "2ep", or a
    fraction such as 0.1).

    `warmup` is how long scores are observed before the first pruning step: all of `start` if null.
    `window` is how long they are before each update: all the time if null.
    `hold` goes on updating at the final sparsity, after every step, until the last one: where
    weights may come back, the final phase still moves the masks. `tail` is how long before the end
    of all steps the pruning steps end; it says what `steps` are.
    """

    start: Time = 0.0
    steps: Time = 1.0
    every: Time = 1
    warmup: Time | None = None
    hold: bool = False
    tail: Time | None = None
    window: Time | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where it fits into no training at all."""
        check_time("start", self.start)
        check_time("warmup", self.warmup)
        check_time("tail", self.tail)
        check_time("window", self.window, least=1)
        if self.tail is None:
            check_time("steps", self.steps, least=1)
            ends = [self.start, self.steps]
            if not any(isinstance(time, str) for time in ends) and sum(map(float, ends)) > 1 + 1e-9:
                raise ValueError(
                    f"schedule.start={self.start!r} and schedule.steps={self.steps!r} are more "
                    "than all steps: allowed is a sum up to 1"
                )
        if not isinstance(self.every, int) or isinstance(self.every, bool):
            check_time("every", self.every, least=1)
        elif self.every < 1:
            raise ValueError(f"schedule.every={self.every!r}: allowed is a whole number from 1")

    def plan(self, total: int, epoch: int) -> Plan:
        start, steps = steps_of(self.start, total, epoch), steps_of(self.steps, total, epoch)
        if self.tail is not None:
            steps = total - start - (tail := steps_of(self.tail, total, epoch))
            if steps < 1:
                raise ValueError(
                    f"schedule.start={self.start!r} and schedule.tail={self.tail!r} are {start} "
                    f"and {tail} steps, but there are only {total}"
                )
        every = self.every if isinstance(self.every, int) else steps_of(self.every, total, epoch)
        window = 0 if self.window is None else steps_of(self.window, total, epoch)
        if self.window is not None and window < 1:
            raise ValueError(f"schedule.window={self.window!r}: allowed is a time from 1it on")
        if every < 1:
            raise ValueError(f"schedule.every={self.every!r}: allowed is a whole number from 1")
        if start + steps > total:
            raise ValueError(
                f"schedule.start={self.start!r} and schedule.steps={self.steps!r} end at step "
                f"{start + steps}, but there are only {total} steps"
            )
        if steps < every:
            raise ValueError(
                f"schedule.steps={self.steps!r} is {steps} steps: no update every {self.every}"
            )
        observe_from = 0
        if self.warmup is not None:
            warmup = steps_of(self.warmup, total, epoch)
            if warmup > start:
                raise ValueError(
                    f"schedule.warmup={self.warmup!r} is {warmup} steps, but pruning starts after "
                    f"{start} (schedule.start={self.start!r})"
                )
            observe_from = start - warmup
        count = steps // every
        hold = total - start - count * every if self.hold else 0
        return Plan(observe_from, start, every, count, hold, window=window)

    def sparsity(self, index: int, count: int, final: float) -> float:
        raise NotImplementedError

    def density(self, index: int, count: int, final: float) -> float:
        return 1 - self.sparsity(index, count, final)


@dataclass(frozen=True)
class Constant(_Gradual):
    """The final sparsity all along: updates exchange weights, every `every` steps and before the
    last of `steps`, as RigL does (arXiv 1911.11134, algorithm 1: t mod DT = 0 and t < T_end).
    """

    name: ClassVar[str] = "constant"

    def plan(self, total: int, epoch: int) -> Plan:
        plan = super().plan(total, epoch)
        steps = steps_of(self.steps, total, epoch)
        if (count := (steps - 1) // plan.every) < 1:
            raise ValueError(
                f"schedule.steps={self.steps!r} is {steps} steps: no update every {self.every} "
                "before the last"
            )
        return replace(plan, count=count, span=plan.start + steps)

    def sparsity(self, index: int, count: int, final: float) -> float:
        return final


@dataclass(frozen=True)
class Linear(_Gradual):
    """Sparsity grows by equal amounts."""

    name: ClassVar[str] = "linear"

    def sparsity(self, index: int, count: int, final: float) -> float:
        return final if index + 1 == count else final * (index + 1) / count


@dataclass(frozen=True)
class Cubic(_Gradual):
    """density_t = k + (1 - k) (1 - (t + 1) / T)^3. Zhu & Gupta 2017, arXiv 1710.01878, eq. 1."""

    name: ClassVar[str] = "cubic"

    def sparsity(self, index: int, count: int, final: float) -> float:
        return final if index + 1 == count else final * (1 - (1 - (index + 1) / count) ** 3)


@dataclass(frozen=True)
class CubicReleased(Cubic):
    """`Cubic` as SEVEN's released code runs it: one step short of T, so not quite at its target."""

    name: ClassVar[str] = "cubic_released"

    def plan(self, total: int, epoch: int) -> Plan:
        plan = super().plan(total, epoch)
        if plan.count < 2:
            raise ValueError(
                f"schedule.steps={self.steps!r}: the released schedule needs 2 updates"
            )
        return replace(plan, count=plan.count - 1)

    def sparsity(self, index: int, count: int, final: float) -> float:
        return super().sparsity(index, count + 1, final)

    def density(self, index: int, count: int, final: float) -> float:
        keep = 1 - final  # in the order of the code's arithmetic: the count is truncated
        return keep + (1 - keep) * (1 - (index + 1) / (count + 1)) ** 3


@dataclass(frozen=True)
class CubicFrom(_Gradual):
    """From a jump to `initial` (or to the final sparsity, where that is less) right at `start`, by
    the cubic curve to the end of `steps`: one update more than `Cubic` has.

    Zhu & Gupta 2017, arXiv 1710.01878, eq. 1 with s_i = `initial`, as oBERT (arXiv 2203.07259) and
    GMP* (arXiv 2210.06384) have it.
    """

    initial: float = 0.7
    name: ClassVar[str] = "cubic_from"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.initial < 1:
            raise ValueError(f"schedule.initial={self.initial!r}: allowed is a number in [0, 1)")

    def plan(self, total: int, epoch: int) -> Plan:
        plan = super().plan(total, epoch)
        if plan.start < 1:
            raise ValueError(f"schedule.start={self.start!r}: the jump follows a step, from 1it on")
        return replace(plan, start=plan.start - plan.every, count=plan.count + 1)

    def sparsity(self, index: int, count: int, final: float) -> float:
        initial = min(self.initial, final)
        if index + 1 == count:
            return final
        return final + (initial - final) * (1 - index / (count - 1)) ** 3


@dataclass(frozen=True)
class Exponential(_Gradual):
    """density_t = k^((t + 1) / T): equal fractions of what remains.

    Used by FORCE and iterative SNIP, arXiv 2006.09081, section 4.
    """

    name: ClassVar[str] = "exponential"

    def sparsity(self, index: int, count: int, final: float) -> float:
        return final if index + 1 == count else 1 - (1 - final) ** ((index + 1) / count)
