"""Updates that may be compiled: when, and that what compiled code is given changes no bit."""

from __future__ import annotations

import pytest
import torch

from seven_bench.baselines.movement import adam_step
from seven_bench.baselines.platon import look_update, smooth_update
from seven_bench.pruning import fused
from seven_bench.pruning.fused import Fused, as_held
from seven_bench.pruning.seven import seven_update

UPDATES = {
    seven_update: (6, (0.8, 0.2, 2.5, 0.9, 0.1, 3.5, False)),
    look_update: (3, (0.1,)),
    smooth_update: (3, (0.85, 0.15, 0.95, 0.05)),
    adam_step: (5, (0.003,)),
}


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.__name__)
def test_masks_as_bytes_and_numbers_held_change_no_bit(update):
    tensors, constants = UPDATES[update]
    generator = torch.Generator().manual_seed(0)
    row = [torch.randn(999, generator=generator).abs_() for _ in range(tensors)]
    if update is seven_update:
        row[2] = row[2] > 0.5
    other = [t.clone() if t.is_floating_point() else t.view(torch.uint8) for t in row]
    update(*row, *constants)
    update(*other, *as_held(constants))
    for one, same in zip(row, other, strict=True):
        if one.is_floating_point():
            assert torch.equal(one.view(torch.int32), same.view(torch.int32))


def test_many_weights_are_compiled_once_it_is_worth_it(monkeypatch):
    """On what is tried, there are enough of them for code of many threads."""
    tried = []

    def compiled(update):
        return lambda *row: (tried.append(len(row[0])), update(*row))

    monkeypatch.setattr(fused, "_compiled", compiled)
    monkeypatch.setattr(fused, "COMPILED_FROM", 1000)
    monkeypatch.setattr(fused, "PROBE", 700)
    monkeypatch.delenv("TORCH_COMPILE_DISABLE", raising=False)
    made = Fused(look_update, state=1, after=2)
    small, large = ({n: torch.ones(size) for n in "ab"} for size in (400, 800))
    large["a"] = torch.ones(400)
    local = {n: torch.zeros_like(p) for n, p in large.items()}
    paths = []
    for weights in (small, large, large, large, small):
        state = {n: local[n][: len(p)] for n, p in weights.items()}
        made(weights, weights, state, constants=(0.5,))
        paths.append(made.path)
    assert paths == ["eager", "eager", "eager", "compiled", "eager"]
    assert tried == [700, 400, 800]
    assert local["a"].eq(2.5).all() and local["b"][:400].eq(2.5).all()
