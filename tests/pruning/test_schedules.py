"""Schedules: what they say at each step, where they lie, and when they cannot finish."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seven_bench.pruning import (
    Constant,
    Cubic,
    CubicFrom,
    CubicReleased,
    Exponential,
    Linear,
    OneShot,
)
from seven_bench.pruning.schedules import Plan, steps_of

GRADUAL = (Linear, Cubic, Exponential)


def test_times_by_hand():
    assert steps_of("120it", 1000, 100) == 120
    assert steps_of("2ep", 1000, 100) == 200
    assert steps_of("0.5ep", 1000, 100) == 50
    assert steps_of(0.25, 1000, 100) == 250
    assert steps_of(1, 1000, 100) == 1000
    for wrong in ("120", "2 epochs", -0.1, 1.5, True, None, "-3it"):
        with pytest.raises(ValueError, match="allowed are '120it', '2ep' or a fraction"):
            steps_of(wrong, 1000, 100)


def test_sparsities_by_hand():
    assert [Linear().sparsity(i, 4, 0.8) for i in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    # density 1/2 + 1/2 (1/2)^3 = 0.5625 in the middle of the cubic
    assert Cubic().sparsity(0, 2, 0.5) == pytest.approx(0.4375)
    # densities 1/2, 1/4, 1/8
    assert [Exponential().sparsity(i, 3, 0.875) for i in range(3)] == [0.5, 0.75, 0.875]
    assert OneShot().sparsity(0, 1, 0.3) == 0.3


@given(st.sampled_from(GRADUAL), st.integers(1, 50), st.floats(0, 0.999), st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_gradual_schedules_rise_to_their_target_exactly(kind, count, final, every):
    schedule = kind(every=every)
    total = count * every
    plan = schedule.plan(total, total)
    assert plan.count == count and plan.end == total
    values = [schedule.sparsity(i, count, final) for i in range(count)]
    assert values[-1] == final, "the last update misses the target"
    assert all(a <= b + 1e-12 for a, b in pairwise(values)), "it falls"
    assert values[0] >= 0
    updates = [plan.update_at(step) for step in range(1, total + 1)]
    assert [u for u in updates if u is not None] == list(range(count)), "updates are left out"


def test_a_window_before_each_update():
    plan = Cubic(start="4it", steps="10it", every=5, window="2it").plan(20, 10)
    assert [step for step in range(1, 21) if plan.update_at(step) is not None] == [9, 14]
    assert [step for step in range(1, 21) if plan.observes(step)] == [8, 9, 13, 14]
    jump = CubicFrom(start="4it", steps="10it", every=0.25, window="2it").plan(20, 10)
    assert [step for step in range(1, 21) if jump.update_at(step) is not None] == [4, 9, 14]
    assert [step for step in range(1, 21) if jump.observes(step)] == [3, 4, 8, 9, 13, 14]
    held = Cubic(start="4it", steps="10it", every=5, window="2it", hold=True).plan(20, 10)
    assert [step for step in range(10, 21) if held.observes(step)] == [13, 14, *range(15, 21)]


def test_a_jump_and_then_the_cubic_curve():
    """The released recipe of oBERT: epochs 2, 6, ..., 26 of 30, from 0.7 to 0.9."""
    schedule = CubicFrom(start="2ep", steps="24ep", every="4ep", initial=0.7)
    plan = schedule.plan(300, 10)
    updates = [step for step in range(1, 301) if plan.update_at(step) is not None]
    assert updates == [20, 60, 100, 140, 180, 220, 260]
    assert [plan.observes(step) for step in (1, 260, 261)] == [True, True, False]
    found = [schedule.sparsity(i, plan.count, 0.9) for i in range(7)]
    assert found == pytest.approx([0.9 - 0.2 * (1 - i / 6) ** 3 for i in range(7)])
    assert (found[0], found[3], found[-1]) == (pytest.approx(0.7), pytest.approx(0.875), 0.9)
    assert [schedule.sparsity(i, 7, 0.5) for i in (0, 6)] == [0.5, 0.5], "it jumps past its target"


def test_plans_by_hand():
    plan = Cubic(start="10it", steps="20it", every=5, warmup="4it").plan(40, 10)
    assert (plan.observe_from, plan.start, plan.count, plan.end) == (6, 10, 4, 30)
    assert [step for step in range(1, 41) if plan.update_at(step) is not None] == [15, 20, 25, 30]
    assert [step for step in range(1, 41) if plan.observes(step)] == list(range(7, 31))
    assert Cubic(start="10it", steps="20it").plan(40, 10).observe_from == 0, "all of start"
    assert OneShot(at="3it").plan(5, 5) == Plan(observe_from=0, start=2, every=1, count=1)


def test_the_released_schedule_ends_one_step_short():
    plan = CubicReleased(steps="4it").plan(10, 10)
    assert plan.count == 3
    values = [CubicReleased().sparsity(i, 3, 0.8) for i in range(3)]
    # density 0.2 + 0.8 (1 - t/4)^3: after three of four steps 0.2125
    assert values == pytest.approx([1 - (0.2 + 0.8 * (1 - t / 4) ** 3) for t in (1, 2, 3)])


def test_a_schedule_that_cannot_finish_says_so_with_both_numbers():
    for schedule, text in (
        (Cubic(start="50it", steps="60it"), "end at step 110, but there are only 100"),
        (Cubic(steps="2it", every=5), "no update every 5"),
        (Cubic(window=0.001), "schedule.window=0.001"),
        (Cubic(every=0.001), "schedule.every=0.001"),
        (CubicFrom(steps=0.5), "schedule.start=0.0: the jump follows a step"),
        (OneShot(at="101it"), "is step 101, but there are 100"),
        (OneShot(at=0.001), "is step 0"),
    ):
        with pytest.raises(ValueError, match=text):
            schedule.plan(100, 10)


def test_what_fits_into_no_training_is_refused_at_once():
    for make, text in (
        (lambda: Cubic(every=0), "schedule.every=0: allowed is a whole number from 1"),
        (lambda: Cubic(window=0.0), "schedule.window=0.0"),
        (lambda: Cubic(every="0ep"), "schedule.every='0ep'"),
        (lambda: Cubic(start=-3), "schedule.start=-3: allowed are '120it'"),
        (lambda: Cubic(start=0.6, steps=0.5), "are more than all steps"),
        (lambda: Cubic(steps="9" * 400 + "it"), "schedule.steps='999"),
        (lambda: CubicFrom(start="1it", steps="3it", initial=1.5), "schedule.initial=1.5"),
        (lambda: OneShot(at=0.0), "schedule.at=0.0: .* above 0"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
    assert Cubic(start=0.6, steps=0.5, tail=0.1).plan(10, 10).end == 9, "a tail says what steps are"


def test_the_released_count_is_truncated_as_its_code_computes_it():
    """keep + (1 - keep) (1 - (t + 1) / T)^3 of 560 weights: 1 - sparsity is one off at a step."""
    final, total, steps = 0.9, 560, 58
    schedule, keep, others = CubicReleased(steps="58it"), 1 - 0.9, 0
    count = schedule.plan(steps, steps).count
    assert count == steps - 1
    for t in range(count):
        published = int((keep + (1 - keep) * (1 - (t + 1) / steps) ** 3) * total)
        assert int(schedule.density(t, count, final) * total) == published
        others += int((1 - schedule.sparsity(t, count, final)) * total) != published
    assert others == 1


def test_a_tail_is_told_from_the_end():
    """PLATON's windows: masks tighten from its first warm-up to its last."""
    assert Cubic(start="10it", tail="30it", every=10).plan(100, 10) == Plan(0, 10, 10, 6)
    assert Cubic(start="1ep", tail="3ep", hold=True).plan(100, 10) == Plan(0, 10, 1, 60, hold=30)
    with pytest.raises(ValueError, match=r"are 50 and 60 steps, but there are only 100"):
        Cubic(start=0.5, tail=0.6).plan(100, 10)


def test_exchanges_stop_before_the_last_step():
    """Of 40 steps every 10: after 10, 20 and 30; progress is that of the 40."""
    plan = Constant(steps="40it", every=10).plan(100, 10)
    assert [step for step in range(101) if plan.update_at(step) is not None] == [10, 20, 30]
    assert (plan.progress(10), plan.progress(30), plan.progress(50)) == (0.25, 0.75, 1.0)
    with pytest.raises(ValueError, match="no update every 40 before the last"):
        Constant(steps="40it", every=40).plan(100, 10)
