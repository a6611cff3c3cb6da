"""Moments, GSNR and c by hand; what a mask keeps of sentinels, counted by hand."""

import math

import pytest
import torch
from torch import nn

from seven_bench.measure.gradient_noise import (
    Moments,
    Ranked,
    Weights,
    measure_moments,
    measure_weights,
    noise_floor,
    summarise_mask,
)


def two_weights() -> tuple[dict[str, torch.Tensor], list[list[float]]]:
    """Weights 2 and -1; gradients 1 then 3, and -1 then 1."""
    return {"w": torch.tensor([2.0, -1.0])}, [[1.0, -1.0], [3.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_weights_by_hand(dtype):
    params, batches = two_weights()
    moments = Moments(params, dtype)
    for batch in batches:
        moments.add({"w": torch.tensor(batch)})
    found = measure_weights(params, moments, ["w"])
    # the first: E g = 2, E|g| = 2, Var g = 1, E g^2 = 5; the second: 0, 1, 1, 1
    assert found.sensitivity.tolist() == [2 * 2, 1 * 1]
    assert found.gsnr.tolist() == [4 / 1, 0 / 1]
    assert found.evenness.tolist() == pytest.approx([2 / math.sqrt(5), 1.0])
    assert found.count == 2


def test_moments_are_those_of_all_batches_at_once():
    torch.manual_seed(0)
    params = {"a": torch.ones(3, 4), "b": torch.ones(5)}
    draws = [
        {n: torch.randn(p.shape) + 1e3 * (n == "b") for n, p in params.items()} for _ in range(50)
    ]
    moments = Moments(params)
    for grads in draws:
        moments.add(grads)
    for name in params:
        stacked = torch.stack([grads[name] for grads in draws]).double()
        assert torch.allclose(moments.mean[name].double(), stacked.mean(0), rtol=1e-5)
        assert torch.allclose(moments.size[name].double(), stacked.abs().mean(0), rtol=1e-5)
        # around a mean of 1000 too, where the difference of two sums in float32 has nothing left
        variance = stacked.var(0, unbiased=False)
        assert torch.allclose(moments.spread[name].double() / 50, variance, rtol=1e-2)


def test_constant_and_absent_gradients():
    params = {"w": torch.ones(3)}
    moments = Moments(params)
    for _ in range(2):
        moments.add({"w": torch.tensor([0.0, 2.0, -2.0])})
    found = measure_weights(params, moments, ["w"])
    assert found.gsnr.tolist() == [0.0, math.inf, math.inf]
    assert found.evenness.tolist() == [0.0, 1.0, 1.0]


def test_gradients_of_a_model_are_its_losss():
    """Loss w x: the gradient is the batch's mean of x, whatever w. Dropout off, modes restored."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1, bias=False))
    model.train()
    with torch.no_grad():
        model[1].weight.fill_(3.0)
    params = {"1.weight": model[1].weight}
    batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [4.0]])]  # means 2 and 4
    moments = measure_moments(model, params, lambda x: model(x).mean(), batches)
    found = measure_weights(params, moments, ["1.weight"])
    assert found.sensitivity.tolist() == [3 * 3]
    assert found.gsnr.tolist() == [3**2 / 1]
    assert model.training and model[0].training
    assert params["1.weight"].item() == 3.0


def test_dropout_can_stay_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1, bias=False))
    params = {"1.weight": model[1].weight}
    same = [torch.ones(4, 1)] * 8
    loss = lambda x: model(x).mean()  # noqa: E731
    still = measure_moments(model, params, loss, same)
    noisy = measure_moments(model, params, loss, same, dropout=True)
    assert float(still.spread["1.weight"]) == 0 < float(noisy.spread["1.weight"])


def test_one_batch_has_no_noise():
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="1 batches: noise needs two"):
        measure_moments(
            model, {"weight": model.weight}, lambda x: model(x).mean(), [torch.ones(1, 1)]
        )


def passes(examples: int, batch_size: int, count: int) -> list[list[int]]:
    """`count` batches of whole numbers below `examples`, in a new order each time they run out."""
    found: list[list[int]] = []
    while len(found) < count:
        found += [batch.tolist() for batch in torch.randperm(examples).split(batch_size)]
    return found[:count]


@pytest.mark.parametrize(
    ("examples", "batch_size", "count", "by_hand"),
    [
        (40, 8, 5, 1 / 2),  # five batches that share nothing: 1 / (5 - 3), not 1 / 4
        (160, 8, 20, 1 / 17),
        (64, 8, 40, None),  # five times over
        (64, 8, 12, None),  # once and a half
        (16, 8, 64, None),  # two batches of an order, 32 orders
    ],
)
def test_pure_noise_shows_the_floor(examples, batch_size, count, by_hand):
    torch.manual_seed(0)
    batches, weights = passes(examples, batch_size, count), 200_000
    drawn = torch.randn(examples, weights)
    params = {"w": torch.ones(weights)}
    moments = Moments(params)
    for batch in batches:
        moments.add({"w": drawn[batch].mean(0)})
    found = measure_weights(params, moments, ["w"])
    floor = noise_floor(batches)
    assert float(found.gsnr.mean()) == pytest.approx(floor, rel=0.05)
    assert by_hand is None or floor == pytest.approx(by_hand)


@pytest.mark.parametrize("batches", [passes(24, 8, 3), [[0, 1]] * 9, [[0, 1], [1, 2]]])
def test_no_floor_without_four_batches_that_differ(batches):
    with pytest.raises(ValueError, match="a noise floor needs four batches that differ"):
        noise_floor(batches)


def twenty() -> Ranked:
    """Twenty weights of sensitivity 20 to 1; the GSNR alternates high (2) and low (1), c is 0.5."""
    sensitivity = torch.arange(20, 0, -1).float()
    gsnr = torch.tensor([2.0, 1.0] * 10)
    return Ranked.of(Weights(sensitivity, gsnr, torch.full((20,), 0.5)))


def test_a_mask_by_sensitivity_keeps_both_alike():
    kept = torch.zeros(20, dtype=torch.bool)
    kept[:8] = True
    found = summarise_mask(twenty(), kept)
    assert (found["weights"], found["kept"]) == (20, 8)
    assert found["deciles"][0] == {
        "weights": 2,
        "low": 19.0,
        "high": 20.0,
        "sentinels": 1,
        "sentinels_kept": 1,
        "temporary": 1,
        "temporary_kept": 1,
    }
    assert [part["sentinels_kept"] for part in found["deciles"]] == [1] * 4 + [0] * 6
    # the cut: 8 kept, so places 4 to 11, of which 4 to 7 are kept
    cut = found["cut"]
    assert (cut["weights"], cut["low"], cut["high"]) == (8, 9.0, 16.0)
    assert (cut["sentinels"], cut["sentinels_kept"]) == (4, 2)
    assert (cut["temporary"], cut["temporary_kept"]) == (4, 2)
    assert found["gsnr"]["kept"] == found["gsnr"]["by_sensitivity"] == {"mean": 1.5, "median": 1.0}
    assert found["c"]["kept"]["mean"] == 0.5


def test_a_mask_that_prefers_the_steady_shows_it():
    kept = torch.zeros(20, dtype=torch.bool)
    kept[0:16:2] = True  # eight of high GSNR
    found = summarise_mask(twenty(), kept)
    cut = found["cut"]
    assert (cut["sentinels_kept"], cut["temporary_kept"]) == (4, 0)
    assert found["gsnr"]["kept"]["mean"] == 2.0
    assert found["gsnr"]["by_sensitivity"]["mean"] == 1.5
    assert found["gsnr"]["removed"]["mean"] == pytest.approx((2 * 2 + 10 * 1) / 12)
    assert found["gsnr"]["all"]["mean"] == 1.5


def test_order_is_by_sensitivity_whatever_the_place():
    shuffled = torch.tensor([3.0, 9.0, 1.0, 7.0])
    ranked = Ranked.of(Weights(shuffled, torch.ones(4), torch.ones(4)))
    assert ranked.order.tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("living", [0, 20])
def test_all_or_nothing_has_no_cut(living):
    kept = torch.arange(20) < living
    found = summarise_mask(twenty(), kept)
    assert found["cut"]["weights"] == found["cut"]["sentinels"] == 0
    empty = found["gsnr"]["removed" if living else "kept"]
    assert empty == {"mean": None, "median": None}


def test_infinite_ratios_stay_out_of_the_mean():
    weights = Weights(torch.ones(3), torch.tensor([1.0, math.inf, math.inf]), torch.ones(3))
    found = summarise_mask(Ranked.of(weights), torch.ones(3, dtype=torch.bool))
    assert found["gsnr"]["kept"] == {"mean": 1.0, "median": None}


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="a mask of 3 weights for 20"):
        summarise_mask(twenty(), torch.ones(3, dtype=torch.bool))
