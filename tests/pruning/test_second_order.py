"""oBERT and SparseGPT against arithmetic by hand, and against plain loops in float64."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from seven_bench.baselines.block_fisher import GATHERED, BlockFisher
from seven_bench.baselines.obert import ObertScore
from seven_bench.baselines.sparsegpt import SparseGptScore
from seven_bench.baselines.wanda import WandaScore
from seven_bench.pruning import MaskSet, Observation, OneShot, make_masks, prune
from tests.pruning.quadratic import prune_quadratic

DAMPING = 1e-7


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fisher_of(grads, damping=DAMPING):
    """The whole matrix, float64, of gradients [m, n]."""
    grads = grads.double()
    return grads.T @ grads / len(grads) + damping * torch.eye(grads.shape[1], dtype=torch.float64)


def best_without(fisher, w, gone):
    """The least of d'Fd/2 with d = -w on `gone`, by solving for the rest: (its value, w + d)."""
    rest = [i for i in range(len(w)) if i not in gone]
    d = torch.zeros_like(w)
    d[gone] = -w[gone]
    d[rest] = torch.linalg.solve(fisher[rest][:, rest], -fisher[rest][:, gone] @ d[gone])
    return float(d @ fisher @ d / 2), w + d


def shown(grads, shape, pattern="unstructured", **options):
    """An oBERT score that has seen gradients [m, n] of one parameter."""
    score = ObertScore(damping=DAMPING, **options)
    params = {"w": torch.zeros(shape)}
    score.reset(params)
    for step, grad in enumerate(grads):
        seen = {"w": grad.reshape(shape)}
        score.observe(Observation(params, seen, MaskSet.ones(params), step, pattern=pattern))
    return score


def test_two_weights_by_hand():
    """g = (1, 0) and (1, 2): F = ((1, 1), (1, 2)), F^-1 = ((2, -1), (-1, 1)). With w = (1, 0.5) the
    rises are 1 / (2 2) and 0.25 / (2 1); w_2 goes, and w_1 answers by -F^-1_12 / F^-1_22 w_2.
    """
    score = shown(torch.tensor([[1.0, 0.0], [1.0, 2.0]]), (1, 2), block=2)
    params, ones = {"w": torch.tensor([[1.0, 0.5]])}, {"w": torch.ones(1, 2, dtype=torch.bool)}
    assert score.scores(params, ones)["w"][0].tolist() == pytest.approx([0.25, 0.125], rel=1e-5)
    stays = {"w": torch.tensor([[True, False]])}
    found = score.update_weights(params, ones, stays)
    assert found["w"][0].tolist() == pytest.approx([1.5, 0.0], rel=1e-5)


def test_one_of_six_is_the_best_by_trying_all():
    """On a quadratic model whose Fisher matrix is known: gradients -b of losses -b'w."""
    w, grads = drawn(6, seed=1), drawn(9, 6, seed=2)
    batches = [(torch.zeros(6, 6).tolist(), (-g).tolist()) for g in grads]
    fisher, exact = fisher_of(grads), w.double()
    rises = {q: best_without(fisher, exact, [q]) for q in range(6)}
    goes = min(rises, key=lambda q: rises[q][0])
    ((kept,), score) = prune_quadratic(w.tolist(), batches, ObertScore(6, DAMPING), OneShot(), 5)
    assert kept == [q for q in range(6) if q != goes]
    found = score.scores({"w": w[None]}, {"w": torch.ones(1, 6, dtype=torch.bool)})["w"][0]
    expected = torch.tensor([rises[q][0] for q in range(6)], dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("gone", [[0], [2, 3], [0, 1, 4], [1, 2, 3, 4, 5]])
def test_what_stays_of_six_is_the_optimum_for_all_that_goes(gone):
    w, grads = drawn(6, seed=1), drawn(9, 6, seed=2)
    score, ones = shown(grads, (2, 3), block=6), torch.ones(2, 3, dtype=torch.bool)
    stays = torch.tensor([i not in gone for i in range(6)]).view(2, 3)
    found = score.update_weights({"w": w.view(2, 3)}, {"w": ones}, {"w": stays})["w"]
    _, expected = best_without(fisher_of(grads), w.double(), gone)
    torch.testing.assert_close(found.flatten().double(), expected, rtol=1e-3, atol=1e-5)
    assert not bool(found[~stays].any())


def test_blocks_of_one_rank_as_the_diagonal_of_the_fisher_matrix():
    w, grads = drawn(5, 7, seed=3), drawn(20, 35, seed=4)
    score = shown(grads, (5, 7), block=1)
    found = score.scores({"w": w}, {"w": torch.ones(5, 7, dtype=torch.bool)})["w"]
    expected = w.square() * grads.square().mean(0).view(5, 7)
    torch.testing.assert_close(found, expected / 2, rtol=1e-5, atol=1e-7)
    assert torch.equal(found.flatten().argsort(), expected.flatten().argsort())


def test_a_tensor_is_cut_into_blocks_and_its_last_one_may_be_short():
    """17 weights in blocks of 5: 5, 5, 5, 2, each as the matrix of its own gradients says."""
    w, grads = drawn(1, 17, seed=5), drawn(2 * GATHERED + 3, 17, seed=6)
    score, stays = shown(grads, (1, 17), block=5), (torch.arange(17) % 3 != 0)[None]
    ones = torch.ones(1, 17, dtype=torch.bool)
    rises = score.scores({"w": w}, {"w": ones})["w"][0]
    after = score.update_weights({"w": w}, {"w": ones}, {"w": stays})["w"][0]
    for begin, end in ((0, 5), (5, 10), (10, 15), (15, 17)):
        fisher, exact = fisher_of(grads[:, begin:end]), w[0, begin:end].double()
        expected = [best_without(fisher, exact, [q])[0] for q in range(end - begin)]
        assert rises[begin:end].tolist() == pytest.approx(expected, rel=1e-4)
        gone = [q for q in range(end - begin) if not stays[0, begin + q]]
        _, expected = best_without(fisher, exact, gone)
        torch.testing.assert_close(after[begin:end].double(), expected, rtol=1e-3, atol=1e-5)


def test_what_was_removed_before_takes_no_part():
    """It neither moves nor lets others answer, though its gradient has entered the sums."""
    w, grads = drawn(1, 6, seed=1), drawn(9, 6, seed=2)
    living = torch.tensor([[True, False, True, True, False, True]])
    w, lives = w * living, [0, 2, 3, 5]
    score = shown(grads, (1, 6), block=6)
    rises = score.scores({"w": w}, {"w": living})["w"][0]
    fisher, exact = fisher_of(grads[:, lives]), w[0, lives].double()
    expected = [best_without(fisher, exact, [q])[0] for q in range(4)]
    assert rises[lives].tolist() == pytest.approx(expected, rel=1e-4)
    stays = living & torch.tensor([[True, True, False, True, True, True]])
    after = score.update_weights({"w": w}, {"w": living}, {"w": stays})["w"][0]
    torch.testing.assert_close(after[lives].double(), best_without(fisher, exact, [1])[1],
                               rtol=1e-3, atol=1e-5)  # fmt: skip
    assert not bool(after[~stays[0]].any())


@pytest.mark.parametrize("pattern", ["nm_2_4", "nm_4_8"])
def test_of_groups_the_best_are_kept_by_trying_all(pattern):
    m = int(pattern[-1])
    w, grads = drawn(3, 2 * m, seed=7), drawn(40, 6 * m, seed=8)
    ones = torch.ones(w.shape, dtype=torch.bool)
    score = shown(grads, w.shape, pattern, block=m + 1)  # made m: one group a block
    masks = make_masks(score.scores({"w": w}, {"w": ones}), {"w": ones}, {"w": 3 * m}, pattern)
    for group in range(6):
        here = slice(group * m, group * m + m)
        fisher, exact = fisher_of(grads[:, here]), w.flatten()[here].double()
        ways = [list(gone) for gone in combinations(range(m), m // 2)]
        best = min(ways, key=lambda gone: best_without(fisher, exact, gone)[0])
        kept = masks["w"].flatten()[here]
        assert kept.tolist() == [i not in best for i in range(m)]


@pytest.mark.parametrize(("pattern", "block"), [("block_4x4", 50), ("block_1x4", 10), ("row", 50)])
def test_units_rise_as_a_whole(pattern, block):
    w, grads = drawn(8, 8, seed=9), drawn(90, 64, seed=10)
    ones = torch.ones(8, 8, dtype=torch.bool)
    found = shown(grads, w.shape, pattern, block=block).scores({"w": w}, {"w": ones})["w"]
    places = torch.arange(64).view(8, 8)
    units = {
        "block_4x4": places.view(2, 4, 2, 4).transpose(1, 2).reshape(4, 16),
        "block_1x4": places.view(16, 4),
        "row": places,
    }[pattern]
    size = units.shape[1]
    a_block = block // size * size  # whole units
    order = units.flatten()
    for index, unit in enumerate(units):
        first = index * size // a_block * a_block
        block_of = order[first : first + a_block]
        inverse = fisher_of(grads[:, block_of]).inverse()
        inside = [block_of.tolist().index(i) for i in unit.tolist()]
        v = w.flatten()[unit].double()
        expected = float(v @ torch.linalg.solve(inverse[inside][:, inside], v) / 2)
        assert found.flatten()[unit].tolist() == pytest.approx([expected] * size, rel=1e-4)


def test_a_row_longer_than_a_block_rises_as_the_sum_of_its_blocks():
    w, grads = drawn(2, 12, seed=9), drawn(30, 24, seed=10)
    ones = torch.ones(2, 12, dtype=torch.bool)
    found = shown(grads, w.shape, "row", block=5).scores({"w": w}, {"w": ones})["w"]
    for row in range(2):
        rise = 0.0
        for begin in range(12 * row, 12 * row + 12, 4):  # the largest part of 12 up to 5
            here = slice(begin, begin + 4)
            v = w.flatten()[here].double()
            rise += float(v @ fisher_of(grads[:, here]) @ v / 2)
        assert found[row].tolist() == pytest.approx([rise] * 12, rel=1e-4)


def woodbury(grads, damping):
    """F^-1 as the released code has it: one gradient after the other, in their own type."""
    m, n = grads.shape
    inverse = torch.eye(n, dtype=grads.dtype) / damping
    for g in grads:
        v = inverse @ g
        inverse -= torch.outer(v, v) / (m + g @ v)
    return inverse


def test_it_is_woodburys_matrix_and_nearer_to_it_than_that_is_in_float32():
    """Gradients of a common size of this field, 1e-3 to 1e-1: 1e-7 is a real damping."""
    grads = drawn(64, 30, seed=11) * torch.logspace(-3, -1, 30)
    exact = woodbury(grads.double(), DAMPING).diagonal()
    w, ones = torch.ones(1, 30), torch.ones(1, 30, dtype=torch.bool)
    rises = shown(grads, (1, 30), block=30).scores({"w": w}, {"w": ones})["w"][0]
    ours = (1 / (2 * rises.double()) / exact - 1).abs().max()
    theirs = (woodbury(grads, DAMPING).diagonal().double() / exact - 1).abs().max()
    assert ours < 1e-3
    assert ours < theirs


def test_without_enough_gradients_the_damping_decides():
    """3 gradients of 20 weights: what they do not see costs damping w^2 / 2, not 0 and not nan."""
    grads = drawn(3, 20, seed=12) * 1e-3
    w, ones = drawn(1, 20, seed=13), torch.ones(1, 20, dtype=torch.bool)
    score = shown(grads, (1, 20), block=20)
    rises = score.scores({"w": w}, {"w": ones})["w"][0].double()
    exact = w[0].double().square() / (2 * woodbury(grads.double(), DAMPING).diagonal())
    torch.testing.assert_close(rises, exact, rtol=1e-3, atol=0)


def test_a_control_leaves_the_weights_alone():
    score = shown(drawn(4, 6), (1, 6), update=False)
    ones = {"w": torch.ones(1, 6, dtype=torch.bool)}
    assert score.update_weights({"w": torch.ones(1, 6)}, ones, ones) is None


def test_state_goes_on_where_it_was():
    grads, w = drawn(GATHERED + 5, 30, seed=14), drawn(1, 30, seed=15)
    whole, ones = shown(grads, (1, 30)), {"w": torch.ones(1, 30, dtype=torch.bool)}
    first, second = shown(grads[: GATHERED + 2], (1, 30)), ObertScore(damping=DAMPING)
    second.reset({})
    second.load_state_dict(first.state_dict())
    for step, grad in enumerate(grads[GATHERED + 2 :]):
        second.observe(Observation({}, {"w": grad[None]}, {}, step))
    assert torch.equal(whole.scores({"w": w}, ones)["w"], second.scores({"w": w}, ones)["w"])


def test_memory_is_a_block_a_weight():
    fisher = BlockFisher(50, DAMPING)
    fisher.add({"w": torch.ones(100, 50)})
    held = sum(t.numel() * 4 for t in (fisher.sums["w"], fisher.gathered["w"]))
    assert held == 264 * 5000


# -- SparseGPT -------------------------------------------------------------------------------

ROWS, INPUTS, COLUMNS = 12, 40, 16  # the last block of columns is half as wide


def a_layer():
    """Weights [12, 40] and correlated inputs [200, 40] of unequal sizes, the eighth always 0."""
    mixed = drawn(200, INPUTS, seed=21) @ drawn(INPUTS, INPUTS, seed=22)
    inputs = mixed * torch.logspace(-1, 0, INPUTS)[torch.randperm(INPUTS, generator=generator(3))]
    inputs[:, 7] = 0
    return drawn(ROWS, INPUTS, seed=23), inputs


def generator(seed):
    return torch.Generator().manual_seed(seed)


def obs_loop(weight, inputs, sparsity, group=None, damping=0.01):
    """Optimal brain surgeon, column by column from the left, a row at a time, float64.

    H^-1 is that of the columns not passed yet: each is taken out of it as it is passed. Which
    weights go is decided for COLUMNS of them, or for a group, from the weights as they are then.
    """
    w, x = weight.double().clone(), inputs.double()
    hessian = x.T @ x
    hessian += damping * hessian.diagonal().mean() * torch.eye(INPUTS, dtype=torch.float64)
    inverse, gone = hessian.inverse(), torch.zeros(weight.shape, dtype=torch.bool)
    pivots, left = [], inverse.clone()
    for j in range(INPUTS):
        pivots.append(float(left[j, j]))
        left -= torch.outer(left[:, j], left[j]) / left[j, j]
    width = COLUMNS if group is None else group[1]
    for j in range(INPUTS):
        if j % width == 0:
            end = min(j + width, INPUTS)
            losses = w[:, j:end].square() / torch.tensor(pivots[j:end], dtype=torch.float64)
            if group is None:
                number = round(sparsity * ROWS * end) - round(sparsity * ROWS * j)
                flat = torch.zeros(losses.numel(), dtype=torch.bool)
                flat[losses.flatten().argsort()[:number]] = True
                gone[:, j:end] = flat.view(losses.shape)
            else:
                worst = losses.argsort(dim=1)[:, : group[1] - group[0]]
                gone[:, j:end] = torch.zeros_like(losses, dtype=torch.bool).scatter(1, worst, True)
        for row in range(ROWS):
            if gone[row, j]:
                w[row] -= w[row, j] / inverse[j, j] * inverse[:, j]
        inverse -= torch.outer(inverse[:, j], inverse[j].clone()) / inverse[j, j]
    return ~gone, w * ~gone


def swept(weight, inputs, sparsity, pattern="unstructured", **options):
    """The mask and the weights that SparseGPT leaves, by the engine's own selection."""
    score, params = SparseGptScore(columns=COLUMNS, **options), {"w": weight}
    ones, half = MaskSet.ones(params), len(inputs) // 2
    score.reset(params)
    for part in (inputs[:half], inputs[half:]):
        gram = {"w": part.T @ part}
        score.observe(
            Observation(
                params, {}, ones, 0, supplied={"grams": gram}, sparsity=sparsity, pattern=pattern
            )
        )
    masks = prune(score.scores(params, ones), ones, sparsity, "uniform", pattern)
    weights = score.update_weights(params, ones, masks)
    return masks["w"], weight * masks["w"] if weights is None else weights["w"]


def error(weight, inputs, pruned):
    """What a layer's output is off by, as a fraction."""
    return float((inputs @ (weight - pruned).T).square().sum() / (inputs @ weight.T).square().sum())


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8, 0.95])
def test_sparsegpt_is_the_surgeons_loop(sparsity):
    weight, inputs = a_layer()
    mask, found = swept(weight, inputs, sparsity)
    stays, expected = obs_loop(weight, inputs, sparsity)
    assert torch.equal(mask, stays)
    assert int(mask.sum()) == mask.numel() - round(sparsity * mask.numel())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pattern", ["nm_2_4", "nm_4_8"])
def test_sparsegpt_decides_on_groups_as_it_comes_to_them(pattern):
    weight, inputs = a_layer()
    mask, found = swept(weight, inputs, 0.5, pattern)
    group = (int(pattern[3]), int(pattern[5]))
    stays, expected = obs_loop(weight, inputs, 0.5, group)
    assert torch.equal(mask, stays)
    assert bool((mask.view(-1, group[1]).sum(1) == group[0]).all())
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.9])
def test_sparsegpt_errs_less_than_wanda_and_magnitude(sparsity):
    weight, inputs = a_layer()
    params, ones = {"w": weight}, MaskSet.ones({"w": weight})
    wanda = WandaScore()
    wanda.reset(params)
    wanda.observe(
        Observation(params, {}, ones, 0, supplied={"activations": {"w": inputs.square().sum(0)}})
    )
    of_wanda = prune(wanda.scores(params, ones), ones, sparsity, "per_row")["w"]
    of_magnitude = prune({"w": weight.abs()}, ones, sparsity)["w"]
    ours = error(weight, inputs, swept(weight, inputs, sparsity)[1])
    control = error(weight, inputs, swept(weight, inputs, sparsity, update=False)[1])
    assert ours < error(weight, inputs, weight * of_wanda)
    assert ours < error(weight, inputs, weight * of_magnitude)
    assert ours < control


def test_sparsegpt_answers_to_whatever_mask_the_engine_makes():
    weight, inputs = a_layer()
    mask, found = swept(weight, inputs, 0.5, "row")
    assert sorted(mask.sum(1).tolist()) == [0] * 6 + [INPUTS] * 6
    assert torch.equal(found, weight * mask), "a row that stays whole has nothing to answer to"
    mask, found = swept(weight, inputs, 0.5, "block_4x4")
    assert error(weight, inputs, found) < error(weight, inputs, weight * mask)


def test_sparsegpt_removes_again_what_was_removed():
    """Living weights alone compete; what an earlier round removed is 0 and stays so."""
    weight, inputs = a_layer()
    score, living = SparseGptScore(columns=COLUMNS), drawn(ROWS, INPUTS, seed=24) > -0.5
    params, masks = {"w": weight * living}, MaskSet({"w": living})
    score.reset(params)
    gram = {"w": inputs.T @ inputs}
    score.observe(Observation(params, {}, masks, 0, supplied={"grams": gram}, sparsity=0.6))
    after = prune(score.scores(params, masks), masks, 0.6, "uniform")
    left = score.update_weights(params, masks, after)["w"]
    assert after.kept == 192 and not bool((after["w"] & ~living).any())
    assert not bool(left[~after["w"]].any())
    assert error(params["w"], inputs, left) < error(params["w"], inputs, params["w"] * after["w"])


def test_sparsegpt_of_sparsity_0_moves_nothing():
    weight, inputs = a_layer()
    mask, found = swept(weight, inputs, 0.0)
    assert bool(mask.all()) and torch.equal(found, weight)
