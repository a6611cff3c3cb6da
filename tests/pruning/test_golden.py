"""Every score against arithmetic by hand or a plain float64 reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from seven_bench.baselines.fisher import FisherScore
from seven_bench.baselines.grasp import GraspScore
from seven_bench.baselines.magnitude import MagnitudeScore
from seven_bench.baselines.random import RandomScore
from seven_bench.baselines.snip import SnipScore
from seven_bench.baselines.sparsegpt import SparseGptScore
from seven_bench.baselines.synflow import SynflowLinearizedScore
from seven_bench.baselines.taylor import TaylorScore
from seven_bench.baselines.wanda import WandaScore
from seven_bench.pruning import Cubic, Exponential, MaskSet, Observation, OneShot, SevenScore
from seven_bench.pruning.calibration import prune_before
from seven_bench.pruning.pruner import Method, Pruner
from tests.pruning.quadratic import prune_quadratic

A1, A2 = 0.8, 0.9


class Small(nn.Module):
    """Two linear layers with a tanh between them."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.first = nn.Linear(6, 8, bias=False)
        self.second = nn.Linear(8, 3, bias=False)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / 2)

    def loss(self, batch):
        x, y = batch
        return (self.second(torch.tanh(self.first(x.to(self.first.weight)))) - y).square().mean()


def batches_of(count, size=5):
    generator = torch.Generator().manual_seed(9)
    return [
        (torch.randn(size, 6, generator=generator), torch.randn(size, 3, generator=generator))
        for _ in range(count)
    ]


def parameters_of(model):
    return dict(model.named_parameters())


def seven_reference(batches, schedule_steps, warmup, keep, signed):
    """SEVEN in float64, written out: the scores and masks after every pruning step."""
    model = Small().double()
    params = parameters_of(model)
    dense = {n: p.detach().clone() for n, p in params.items()}
    zero = {n: torch.zeros_like(p) for n, p in params.items()}
    m, v, score = dict(zero), dict(zero), dict(zero)
    mask = {n: torch.ones_like(p, dtype=torch.bool) for n, p in params.items()}
    total, steps = sum(p.numel() for p in params.values()), []
    for t, batch in enumerate(batches):
        grads = torch.autograd.grad(model.loss(batch), list(params.values()))
        for n, g in zip(params, grads, strict=True):
            m[n] = A1 * m[n] + (1 - A1) * (g if signed else g.abs())
            v[n] = A2 * v[n] + (1 - A2) * g**2
            steady = (m[n] / (1 - A1 ** (t + 1))).abs() / (
                torch.sqrt(v[n] / (1 - A2 ** (t + 1))) + 1e-9
            )
            score[n] = (score[n] + (dense[n] * g).abs() * steady) * mask[n]
        step = t + 1 - warmup
        if step < 1:
            continue
        density = keep + (1 - keep) * (1 - step / schedule_steps) ** 3
        count = total - round((1 - density) * total)
        living = torch.cat([mask[n].flatten() for n in params])
        flat = torch.cat([score[n].flatten() for n in params])
        best = torch.where(living, flat, -torch.inf).argsort(descending=True, stable=True)[:count]
        kept = torch.zeros(total, dtype=torch.bool).index_fill_(0, best, True)
        parts = kept.split([p.numel() for p in params.values()])
        mask = {n: part.view_as(mask[n]) for n, part in zip(params, parts, strict=True)}
        with torch.no_grad():
            for n, p in params.items():
                p.copy_(dense[n] * mask[n])
        steps.append((mask, {n: s.clone() for n, s in score.items()}))
    return steps


@pytest.mark.parametrize("signed", [False, True])
def test_seven_is_its_formula_over_thirty_steps(signed):
    warmup, steps, keep = 5, 30, 0.2
    batches = batches_of(warmup + steps)
    reference = seven_reference(batches, steps, warmup, keep, signed)
    model, seen = Small(), []
    params = parameters_of(model)
    score = SevenScore(A1, A2, signed)
    schedule = Cubic(start=f"{warmup}it", steps=f"{steps}it")

    def update(made):
        scores = score.scores(params, made.masks)
        seen.append((made.masks, {n: s.clone() for n, s in scores.items()}))

    pruner = Pruner(
        Method(score, schedule, 1 - keep),
        schedule.plan(len(batches), 1),
        params,
        torch.Generator(),
        on_update=update,
    )
    prune_before(pruner, model, params, model.loss, batches)
    assert len(seen) == len(reference) == steps
    for step, ((masks, scores), (mask, expected)) in enumerate(zip(seen, reference, strict=True)):
        for name in masks:
            assert torch.equal(masks[name], mask[name]), f"step {step}: another mask of {name}"
            torch.testing.assert_close(
                scores[name].double(), expected[name], rtol=1e-5, atol=1e-12, msg=f"step {step}"
            )


def seen_of(weights, gradients, masks=None):
    params = {"w": torch.tensor([weights])}
    return Observation(params, {"w": torch.tensor([gradients])}, masks or MaskSet.ones(params), 0)


def test_seven_by_hand_and_its_noise_variants():
    w, steps = [2.0, -1.0], ([0.5, 0.25], [-0.5, 0.75])
    # unsigned: mhat = .5 and (.2 .8 .25 + .2 .75) / .36 = .527778; vhat = .5 and .578812
    m = (0.2 * 0.8 * 0.25 + 0.2 * 0.75) / (1 - 0.8**2)
    v = math.sqrt((0.1 * 0.9 * 0.25**2 + 0.1 * 0.75**2) / (1 - 0.9**2))
    signed_m = abs(0.2 * 0.8 * 0.5 - 0.2 * 0.5) / (1 - 0.8**2)  # of the weight whose sign turns
    by_hand = {
        "damped": (1.0 + 1.0, 0.25 + 0.75 * m / v),
        "none": (1.0 + 1.0, 0.25 + 0.75),
        "inverted": (1.0 + 1.0, 0.25 + 0.75 * v / m),
        "shuffled": (1.0 + 1.0 * m / v, 0.25 + 0.75 * 1.0),  # the other's noise, if exchanged
    }
    for noise, expected in by_hand.items():
        score = SevenScore(noise=noise)
        score.reset(seen_of(w, steps[0]).params, torch.Generator().manual_seed(0))
        if noise == "shuffled":
            score.order = {"w": torch.tensor([1, 0])}
        for g in steps:
            score.observe(seen_of(w, g))
        found = score.scores({}, {})["w"][0].tolist()
        assert found == pytest.approx(expected, rel=1e-5), noise
    signed = SevenScore(signed=True)
    signed.reset(seen_of(w, steps[0]).params)
    for g in steps:
        signed.observe(seen_of(w, g))
    assert float(signed.scores({}, {})["w"][0, 0]) == pytest.approx(1 + signed_m / 0.5, rel=1e-5)


def test_seven_without_noise_is_taylor_and_starts_as_snip():
    batches = batches_of(6)
    found = {}
    for name, score in (("none", SevenScore(noise="none")), ("taylor", TaylorScore())):
        model = Small()
        pruner = Pruner(
            Method(score, Cubic(), 0.7), Cubic().plan(6, 6), parameters_of(model), torch.Generator()
        )
        prune_before(pruner, model, parameters_of(model), model.loss, batches)
        found[name] = pruner.masks
    assert found["none"].hash() == found["taylor"].hash(), "c = 1 is not taylor"
    first = seen_of([3.0, -2.0], [0.5, -0.25])
    seven, snip = SevenScore(), SnipScore()
    for score in (seven, snip):
        score.reset(first.params)
        score.observe(first)
    torch.testing.assert_close(
        seven.scores(first.params, {})["w"], snip.scores(first.params, {})["w"]
    )


def test_seven_forgets_removed_weights_and_refuses_bad_options():
    score = SevenScore()
    seen = seen_of([1.0, 1.0], [1.0, 1.0], MaskSet({"w": torch.tensor([[True, False]])}))
    score.reset(seen.params)
    score.observe(seen)
    assert score.scores({}, {})["w"].tolist() == [[1.0, 0.0]]
    for wrong, text in (({"a1": 1.0}, "score.a1=1.0"), ({"noise": "x"}, "allowed are damped")):
        with pytest.raises(ValueError, match=text):
            SevenScore(**wrong)


# w = (1, 1, 1); at the start g = Hw - b = (3, 2, 1); without the third weight g = (0.5, 1.5, 4).
H = [[1.0, 0.0, 2.5], [0.0, 1.0, 0.5], [2.5, 0.5, -3.0]]
B = [0.5, -0.5, -1.0]
ONES = [1.0, 1.0, 1.0]


def test_snip_iterative_snip_and_force_part_where_the_gradient_turns():
    once, _ = prune_quadratic(ONES, [(H, B)], SnipScore(), OneShot(), keep=1)
    assert once == [[0]], "SNIP: |w g| = 3, 2, 1"
    twice = [(H, B)] * 2
    iterated, _ = prune_quadratic(ONES, twice, SnipScore(), Exponential(), keep=1, rescore=True)
    assert iterated == [[0, 1], [1]], "iterative SNIP: then 0.5, 1.5 among the living"
    forced, _ = prune_quadratic(
        ONES, twice, SnipScore(), Exponential(), keep=1, rescore=True, masking="regrow"
    )
    assert forced == [[0, 1], [2]], "FORCE: then |w0 g| = 0.5, 1.5, 4: the third comes back"


def test_snip_takes_the_absolute_value_after_the_mean():
    # gradients of the two batches: (3, 1) and (-3, 1); their means 0 and 1
    zero = [[0.0, 0.0], [0.0, 0.0]]
    batches = [(zero, [-3.0, -1.0]), (zero, [3.0, -1.0])]
    kept, _ = prune_quadratic([1.0, 1.0], batches, SnipScore(), OneShot(), keep=1)
    assert kept == [[1]]
    kept, _ = prune_quadratic([1.0, 1.0], batches, TaylorScore(), OneShot(), keep=1)
    assert kept == [[0]], "taylor takes it before: 6 and 2"


def test_grasp_on_a_quadratic_with_two_batches():
    h1, h2 = [[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [3.0, 1.0]]
    w, b1, b2 = [1.0, -1.0], [1.0, 0.0], [-2.0, 6.0]
    # g1 = (2, -1) - b1 = (1, -1); g2 = (-3, 2) - b2 = (-1, -4); g = (0, -2.5)
    # H1 g = (0, -2.5), H2 g = (-7.5, -2.5); sum (-7.5, -5); times w: (-7.5, 5)
    kept, score = prune_quadratic(w, [(h1, b1), (h2, b2)], GraspScore(), OneShot(), keep=1)
    found = score.scores({"w": torch.tensor([w])}, {})["w"][0].tolist()
    assert found == pytest.approx([-7.5, 5.0]), "not w (H g) with g over all batches"
    assert kept == [[1]], "the largest w (H g) is kept; by absolute value it would be the other"
    # a g of each batch's own would give H1 g1 + H2 g2 = (2, -1) + (-12, -7), times w (-10, 8)


def test_grasp_is_scored_once():
    with pytest.raises(ValueError, match="hessian_gradient: scored in one shot"):
        prune_quadratic(ONES, [(H, B)] * 2, GraspScore(), Exponential(), keep=1)


def run(model, score, schedule, sparsity, batches, **method):
    params = parameters_of(model)
    plan = schedule.plan(len(batches), len(batches))
    pruner = Pruner(Method(score, schedule, sparsity, **method), plan, params, torch.Generator())
    return prune_before(pruner, model, params, model.loss, batches)


class Layers(nn.Sequential):
    """Linear layers of given weights with ReLU between; the batch is the input."""

    def __init__(self, *weights):
        layers = []
        for weight in weights:
            layer = nn.Linear(len(weight[0]), len(weight))
            layer.weight.data = torch.tensor(weight)
            layer.bias.data.fill_(5.0)
            layers += [layer, nn.ReLU()]
        super().__init__(*layers[:-1])

    def loss(self, batch):
        found = self(batch["x"])
        return torch.nn.functional.mse_loss(found, torch.zeros_like(found))


def weights_of(model):
    return {n: p for n, p in model.named_parameters() if n.endswith("weight")}


def prune_layers(model, score, schedule, sparsity, batches, **method):
    params = weights_of(model)
    plan = schedule.plan(len(batches), len(batches))
    pruner = Pruner(Method(score, schedule, sparsity, **method), plan, params, torch.Generator())
    return prune_before(pruner, model, params, model.loss, batches)


def test_synflow_on_two_layers_by_hand():
    first, second = [[1.0, -2.0], [3.0, 0.5]], [[-2.0, 3.2]]
    ones = [{"x": torch.ones(1, 2)}]
    score = SynflowLinearizedScore()
    masks = prune_layers(Layers(first, second), score, OneShot(), 0.5, ones)
    # R = 2 (1 + 2) + 3.2 (3 + 0.5); |w| dR/d|w| is |w2| |w1|, and |w2| times its row of |w1|
    by_hand = {"0.weight": [2.0, 4.0, 9.6, 1.6], "2.weight": [6.0, 11.2]}
    for name, expected in by_hand.items():
        found = 11.2 * score.scores({}, {})[name]  # the largest is 1
        assert found.flatten().tolist() == pytest.approx(expected), name
    assert masks["0.weight"].tolist() == [[False, False], [True, False]]
    assert masks["2.weight"].tolist() == [[True, True]], "6 is kept, though nothing flows to it"
    # rescored as it goes: without 1.6 and 2, what is left of the first path scores 4 and 4
    score = SynflowLinearizedScore()
    masks = prune_layers(Layers(first, second), score, Exponential(), 0.5, ones * 8, rescore=True)
    assert masks["0.weight"].tolist() == [[False, True], [True, False]]
    assert masks["2.weight"].tolist() == [[False, True]]


def test_synflow_with_the_biases_of_its_code():
    first, second = [[1.0, -2.0], [3.0, 0.5]], [[-2.0, 3.2]]
    score = SynflowLinearizedScore(biases="absolute")
    model = Layers(first, second)
    model[0].bias.data.mul_(-1)  # -5, which counts as 5
    prune_layers(model, score, OneShot(), 0.5, [{"x": torch.ones(1, 2)}])
    # R = 2 (3 + 5) + 3.2 (3.5 + 5) + 5: the second layer's flow has the first one's bias in it
    by_hand = {"0.weight": [2.0, 4.0, 9.6, 1.6], "2.weight": [16.0, 27.2]}
    for name, expected in by_hand.items():
        found = 27.2 * score.scores({}, {})[name]
        assert found.flatten().tolist() == pytest.approx(expected), name
    for given, text in (({"biases": "x"}, "zero, absolute"), ({"attention": "x"}, "first_order")):
        with pytest.raises(ValueError, match=text):
            SynflowLinearizedScore(**given)


class Attention(nn.Module):
    """One head of width 2 over 3 tokens, each of its three products a layer; a mask of numbers."""

    def __init__(self):
        super().__init__()
        for name in ("q", "k", "v"):
            setattr(self, name, nn.Linear(2, 2))
        self.v.weight.data = torch.tensor([[1.0, -2.0], [3.0, 4.0]])

    def loss(self, batch):
        parts = [layer(batch["x"]) for layer in (self.q, self.k, self.v)]
        mask = torch.zeros(3, 3)
        found = nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        return nn.functional.mse_loss(found, torch.zeros_like(found))


@pytest.mark.parametrize("attention", ["first_order", "softmax"])
def test_synflow_through_attention(attention):
    score, model = SynflowLinearizedScore(attention), Attention()
    prune_layers(model, score, OneShot(), 0.25, [{"x": torch.ones(1, 1, 3, 2)}])
    found = score.scores({}, {})
    # tokens are alike, so that their mean is each of them: of v, |w| of the largest, 4
    assert found["v.weight"].flatten().tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    flows = [bool((found[f"{name}.weight"] > 0).all()) for name in ("q", "k")]
    assert flows == [attention == "first_order"] * 2, "softmax of equal logits has no slope"


def test_fisher_sees_examples_that_cancel():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[1.0, 2.0]]))

        def loss(self, batch):
            return (batch["x"] @ self.w[0]).mean()

    model = Linear()
    # gradients of the examples: (3, 1) and (-3, 1): in the batch's mean the first cancels
    batch = {"x": torch.tensor([[3.0, 1.0], [-3.0, 1.0]])}
    score = FisherScore()
    masks = run(model, score, OneShot(), 0.5, [batch, batch])
    # w^2 / 2 mean(g^2): 1/2 x 9 and 4/2 x 1
    assert score.scores(parameters_of(Linear()), {})["w"].tolist() == [[4.5, 2.0]]
    assert masks["w"].tolist() == [[True, False]]


def test_wanda_ranks_rows_layer_after_layer():
    first, second = [[1.0, 3.0], [2.0, 1.0]], [[1.0, 1.0]]
    model = Layers(first, second)
    model[0].bias.data.zero_()
    batches = [{"x": torch.tensor([[3.0, 0.0]])}, {"x": torch.tensor([[0.0, 1.0], [0.0, 0.0]])}]
    score = WandaScore()
    masks = prune_layers(model, score, OneShot(), 0.5, batches, distribution="per_row")
    # norms of the inputs: 3 and 1, so |w| norm = (3, 3) and (6, 1): ties go to the first
    assert masks["0.weight"].tolist() == [[True, False], [True, False]]
    # the second layer sees the pruned first: (3, 6) and (0, 0), (0, 0): norms 3 and 6. Unpruned it
    # would have seen (3, 6), (3, 1), (0, 0): norms sqrt(18) and sqrt(37).
    assert score.squares["2.weight"].tolist() == [9.0, 36.0], "inputs are those of the dense model"
    assert masks["2.weight"].tolist() == [[False, True]]


def test_wanda_leaves_out_padding():
    model = Layers([[1.0, 1.0]])
    x = torch.tensor([[[1.0, 2.0], [9.0, 9.0]]])  # one example of two tokens
    score = WandaScore()
    batch = {"x": x, "attention_mask": torch.tensor([[1, 0]])}
    prune_layers(model, score, OneShot(), 0.5, [batch], distribution="per_row")
    assert score.squares["0.weight"].tolist() == [1.0, 4.0]


def test_wanda_refuses_a_layer_that_computes_several_products_at_once():
    """No hook sees the inputs of attention's parts: scores of 0 would be cut by their order."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def loss(self, batch):
            return self.attention(*[batch["x"]] * 3)[0].square().mean()

    batches = [{"x": torch.ones(1, 2, 4)}]
    for score, need in ((WandaScore(), "activations"), (SparseGptScore(), "grams")):
        with pytest.raises(ValueError, match=rf"attention.*weight: .* {need} cannot prune it"):
            prune_layers(Pooled(), score, OneShot(), 0.5, batches, distribution="per_row")


def test_magnitude_and_random():
    params = {"w": torch.tensor([[-3.0, 2.0, 0.0]])}
    assert MagnitudeScore().scores(params, {})["w"].tolist() == [[3.0, 2.0, 0.0]]
    drawn = []
    for seed in (0, 0, 1):
        score = RandomScore()
        score.reset(params, torch.Generator().manual_seed(seed))
        drawn.append(score.scores(params, {})["w"])
    assert torch.equal(drawn[0], drawn[1]), "same seed, other scores"
    assert not torch.equal(drawn[0], drawn[2]), "other seed, same scores"


@pytest.mark.parametrize("score", [SevenScore(), SnipScore(), FisherScore(), GraspScore()])
def test_state_goes_on_where_it_stopped(score):
    seen = seen_of([1.0, 2.0], [0.5, -1.0])
    extra = {"example_squares": seen.grads, "hessian_gradient": seen.grads}
    seen = replace(seen, supplied=extra)
    score.reset(seen.params)
    score.observe(seen)
    again = type(score)()
    again.reset(seen.params)
    again.load_state_dict(score.state_dict())
    for one in (score, again):
        one.observe(seen)
    assert torch.equal(score.scores(seen.params, {})["w"], again.scores(seen.params, {})["w"])
