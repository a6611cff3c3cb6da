"""A score's update on a GPU: compiled and eager, close to the CPU's; the same bits every time."""

from __future__ import annotations

import pytest
import torch

from seven_bench.baselines.movement import MovementScore
from seven_bench.baselines.platon import PlatonScore
from seven_bench.pruning import MaskSet, Observation, SevenScore, prune
from tests.gpu.test_selection import same
from tests.gpu.waits import host_waits

SCORES = {
    "seven": SevenScore,
    "seven signed": lambda: SevenScore(signed=True),
    "seven shuffled": lambda: SevenScore(noise="shuffled"),
    "platon": lambda: PlatonScore(window=2),
    "movement": MovementScore,
}
SHAPES = {"eager": [(64, 96), (33, 7)], "compiled": [(1536, 2048), (33, 7), (2048, 1536)]}
STEPS = 5


def steps(shapes, device):
    """Weights, gradients and masks of every step, the same on each device."""
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        drawn = [
            {f"p{i}": torch.randn(s, generator=generator).to(device) for i, s in enumerate(shapes)}
            for _ in range(3)
        ]
        yield Observation(
            drawn[0], drawn[1], MaskSet({n: t > -1 for n, t in drawn[2].items()}), step
        )


def after(make, shapes, device):
    score = make()
    for seen in steps(shapes, device):
        if seen.step == 0:
            score.reset(seen.params, torch.Generator().manual_seed(7))
        score.observe(seen)
    return score, {n: t.clone() for n, t in score.scores(seen.params, seen.masks).items()}


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, "eager") for name in SCORES),
        *((n, "compiled") for n in ("seven", "platon", "movement")),
    ],
)
def test_close_to_the_cpu_and_the_same_masks_from_the_same_scores(name, way):
    score, found = after(SCORES[name], SHAPES[way], "cuda")
    _, wanted = after(SCORES[name], SHAPES[way], "cpu")
    for key, value in wanted.items():
        scale = float(value.abs().mean())
        torch.testing.assert_close(found[key].cpu(), value, rtol=1e-4, atol=1e-5 * scale)
    fused = {"seven": "fused", "platon": "look", "movement": "step"}.get(name)
    assert fused is None or getattr(score, fused).path == way
    brought = {n: t.cpu() for n, t in found.items()}
    for distribution in ("global", "uniform"):
        of_gpu = prune(found, MaskSet.ones(found), 0.9, distribution)
        assert same(of_gpu, prune(brought, MaskSet.ones(brought), 0.9, distribution))
    _, again = after(SCORES[name], SHAPES[way], "cuda")
    assert all(torch.equal(again[n], found[n]) for n in found)


@pytest.mark.parametrize("name", ["seven", "platon", "movement"])
def test_the_host_does_not_wait_for_an_update(name):
    observed = list(steps(SHAPES["compiled"], "cuda"))
    score = SCORES[name]()
    score.reset(observed[0].params)
    for seen in observed:  # compiled here
        score.observe(seen)
    assert host_waits(lambda: [score.observe(seen) for seen in observed]) == 0


def test_a_state_that_was_loaded_goes_on_the_same():
    """Checkpoints hold tensors apart; loaded, they are side by side again."""
    observed = list(steps(SHAPES["compiled"], "cuda"))
    whole, part = SevenScore(), SevenScore()
    for score in (whole, part):
        score.reset(observed[0].params)
    for seen in observed[:3]:
        whole.observe(seen)
        part.observe(seen)
    taken = {key: value.cpu() for key, value in part.state_dict().items()}
    part = SevenScore()
    part.reset({n: p.cpu() for n, p in observed[0].params.items()})
    part.load_state_dict({key: value.cuda() for key, value in taken.items()})
    for seen in observed[3:]:
        whole.observe(seen)
        part.observe(seen)
    assert all(torch.equal(part.importance[n], whole.importance[n]) for n in whole.importance)
