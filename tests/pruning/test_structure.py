"""Heads and neurons: what belongs to one, how many stay, and which."""

import pytest
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from seven_bench.baselines.block_movement import BlockMovementScore
from seven_bench.baselines.movement import MovementScore
from seven_bench.pruning import (
    PATTERNS,
    MaskSet,
    Observation,
    allocate,
    prunable_parameters,
    prune,
    reachable_count,
)
from seven_bench.pruning.controls import exchanged
from seven_bench.pruning.prunable import stacked_names
from seven_bench.pruning.structure import CoupledBiases, structure_of, structured_parameters
from seven_bench.testing import tiny

COUPLED = [name for name, form in PATTERNS.items() if form.coupled]
# Layer 1 of the tiny BERT: width 16, 2 heads of 8, 32 neurons.
LAYER = "bert.encoder.layer.1."
SELF = LAYER + "attention.self."


def of(name: str, pattern: str, seed: int = 0):
    model = tiny.build(name)
    structure = structure_of(model, pattern)
    params = structured_parameters(model, structure)
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(p.shape, generator=generator) for n, p in params.items()}
    return model, structure, scores, MaskSet.ones(params)


def test_what_belongs_to_a_head_and_to_a_neuron():
    _, structure, scores, ones = of("bert", "head_neuron")
    assert [group.name for group in structure.groups][2:] == [LAYER + "head", LAYER + "neuron"]
    units = {g.name: torch.ones(g.units, dtype=torch.bool) for g in structure.groups}
    units[LAYER + "head"][1] = units[LAYER + "neuron"][3] = False
    masks = structure.expand(units, scores)
    for part in ("query", "key", "value"):  # the second head's rows, 8 to 15
        gone = ~masks[f"{SELF}{part}.weight"]
        assert gone[8:].all() and not gone[:8].any()
    gone = ~masks[LAYER + "attention.output.dense.weight"]
    assert gone[:, 8:].all() and not gone[:, :8].any()
    gone = ~masks[LAYER + "intermediate.dense.weight"]
    assert gone[3].all() and int(gone.sum()) == 16
    gone = ~masks[LAYER + "output.dense.weight"]
    assert gone[:, 3].all() and int(gone.sum()) == 16
    assert sum(int((~mask).sum()) for mask in masks.values()) == 4 * 8 * 16 + 2 * 16
    rows = structure.living_rows(masks)
    assert rows[f"{SELF}key.bias"].tolist() == [True] * 8 + [False] * 8
    assert rows[LAYER + "intermediate.dense.bias"].nonzero().numel() == 31
    assert not any("output" in name for name in rows), "they are no unit's"
    assert ones.total == sum(p.numel() for p in prunable_parameters(tiny.build("bert")).values())


def test_a_head_of_timm_has_rows_in_each_third_of_qkv():
    _, structure, scores, _ = of("vit", "head")
    units = {g.name: torch.tensor([False, True]) for g in structure.groups}
    masks = structure.expand(units, scores)
    gone = ~masks["blocks.0.attn.qkv.weight"]
    for third in gone.chunk(3):
        assert third[:8].all() and not third[8:].any()
    assert structure.living_rows(masks)["blocks.0.attn.qkv.bias"].sum() == 24
    assert sorted(masks) == sorted(scores) and not any("mlp" in name for name in masks)


@pytest.mark.parametrize("name", tiny.MODELS)
@pytest.mark.parametrize("pattern", COUPLED)
def test_counts_are_exact_in_units(name, pattern):
    """Two layers (CLIP: one in each of two towers of one width) of 2 heads and 32 neurons."""
    _, structure, scores, ones = of(name, pattern)
    by_hand = {0.0: (4, 64), 0.13: (3, 55), 0.5: (2, 32), 0.61: (1, 24), 0.95: (0, 3)}
    for mode in PATTERNS[pattern].distributions:
        before = ones
        for sparsity, kept in by_hand.items():
            masks = prune(scores, before, sparsity, mode, structure)
            alive = structure.living_units(masks)  # raises where one is cut in pieces
            for kind, wanted in zip(("head", "neuron"), kept, strict=True):
                here = [int(alive[g.name].sum()) for g in structure.groups if g.kind == kind]
                assert sum(here) == (wanted if here else 0), f"{mode} {sparsity} {kind}"
                if mode == "uniform" and here:
                    assert max(here) - min(here) <= 1, "layers of one kind keep as many"
            assert masks.kept == reachable_count(ones, sparsity, structure)
            assert all(bool((masks[n] <= before[n]).all()) for n in masks), "came back"
            before = masks


def test_the_best_units_stay_ties_in_order():
    _, structure, scores, ones = of("bert", "neuron")
    flat = {name: torch.ones_like(score) for name, score in scores.items()}
    first, second = (f"bert.encoder.layer.{i}.output.dense.weight" for i in (0, 1))
    flat[second][:, 7] += 1  # a sum over the unit: 16 more
    flat[first][0, 4] -= 1  # one less
    masks = prune(flat, ones, 1 - 3 / 64, "global", structure)
    alive = structure.living_units(masks)
    found = [(g, u) for g, units in alive.items() for u in units.nonzero()[:, 0].tolist()]
    assert found == [
        ("bert.encoder.layer.0.neuron", 0), ("bert.encoder.layer.0.neuron", 1),
        ("bert.encoder.layer.1.neuron", 7),
    ]  # fmt: skip


def test_a_head_is_not_held_against_a_neuron():
    _, structure, scores, ones = of("vit", "head_neuron")
    worth = {n: torch.full_like(s, 1.0 if "attn" in n else 9.0) for n, s in scores.items()}
    counts = allocate(worth, ones, count=2048, mode="global", pattern=structure)
    assert counts == {
        "blocks.0.head": 1024, "blocks.0.neuron": 1024, "blocks.1.head": 0, "blocks.1.neuron": 0,
    }  # fmt: skip
    counts = allocate(worth, ones, count=2048, mode="uniform", pattern=structure)
    assert list(counts.values()) == [512, 512, 512, 512]


def test_biases_of_removed_units_are_held_at_zero():
    model, structure, scores, ones = of("clip", "head_neuron")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.fill_(1.0)
    biases = CoupledBiases(model, structure)
    biases.apply_(ones)
    assert all(bool((p == 1).all()) for p in biases.params.values())
    masks = prune(scores, ones, 0.5, "uniform", structure)
    biases.apply_(masks)
    assert len(biases.params) == 8  # q, k, v and fc1 of one layer in each tower
    assert all(int(p.count_nonzero()) == p.numel() // 2 for p in biases.params.values())
    others = {n for n, p in model.named_parameters() if n.endswith("bias") and bool((p == 1).all())}
    assert "vision_model.encoder.layers.0.self_attn.out_proj.bias" in others


@pytest.mark.parametrize("name", tiny.MODELS)
def test_what_a_removed_unit_has_in_its_rows_reaches_nothing(name):
    """So the masked function is that of the model without them, biases or not."""
    model, structure, scores, ones = of(name, "head_neuron")
    module = tiny.TinyModule(model.eval(), None)
    batch = tiny.tiny_data(0).example_batch(4)
    masks = prune(scores, ones, 0.5, "global", structure)
    named = dict(model.named_parameters())
    masks.apply_({n: named[n].data for n in masks})
    with torch.no_grad():
        before = module.logits(model, batch)
        CoupledBiases(model, structure).apply_(masks)
        assert torch.equal(module.logits(model, batch), before)


def test_shuffling_moves_units_and_keeps_layer_counts():
    model, structure, scores, ones = of("vit", "head_neuron")
    masks = prune(scores, ones, 0.6, "global", structure)
    stacked = stacked_names(model, masks)
    moved = exchanged(masks, "shuffle", scores, structure, 3, stacked)
    assert moved.hash() != masks.hash()
    before, after = structure.living_units(masks), structure.living_units(moved)
    assert all(before[n].sum() == after[n].sum() for n in before)


def test_distilbert_has_its_row():
    config = DistilBertConfig(dim=16, hidden_dim=24, n_layers=1, n_heads=4, vocab_size=20)
    structure = structure_of(DistilBertForSequenceClassification(config), "head_neuron")
    assert [(g.units, g.size) for g in structure.groups] == [(4, 4 * 4 * 16), (24, 2 * 16)]


def test_what_has_no_units_is_refused_in_a_line():
    shape = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    normed = VisionTransformer(**shape, scale_attn_norm=True)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.norm is a LayerNorm over all heads"):
        structure_of(normed, "head")
    assert structure_of(normed, "neuron").groups
    _, structure, scores, ones = of("bert", "neuron")
    with pytest.raises(ValueError, match="distribution='er': pattern=neuron allows global, uni"):
        prune(scores, ones, 0.5, "er", structure)
    with pytest.raises(ValueError, match="pattern=neuron: its units follow from a model"):
        prune(scores, ones, 0.5, "global", "neuron")
    torn = MaskSet({n: m.clone() for n, m in ones.items()})
    next(iter(torn.values()))[0, 0] = False
    with pytest.raises(ValueError, match="the masks hold parts of neuron units"):
        prune(scores, torn, 0.5, "global", structure)
    with pytest.raises(ValueError, match="is not in both weights and units"):
        prune(scores, {"x": next(iter(ones.values()))}, 0.5, "global", structure)
    scores[next(iter(scores))][0] = float("nan")
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.0\.neuron are not finite"):
        prune(scores, ones, 0.5, "global", structure)


def test_block_movement_is_movement_of_a_units_sum():
    _, structure, scores, ones = of("bert", "neuron")
    grads = of("bert", "neuron", seed=1)[2]
    blocks = BlockMovementScore()
    blocks.reset(scores)
    blocks.observe(Observation(scores, grads, ones, 0, pattern=structure))
    slope = {g.name: g.sums({n: s * grads[n] for n, s in scores.items()}) for g in structure.groups}
    found = blocks.scores(scores, ones)
    first = structure.groups[0]
    rows = found["bert.encoder.layer.0.intermediate.dense.weight"]
    # the first step of Adam: m = 0.1 g, v = 0.001 g^2, lr sqrt(1 - 0.999) / (1 - 0.9) m / sqrt(v)
    assert torch.allclose(rows[:, 0], -0.01 * slope[first.name].sign(), atol=1e-6)
    assert bool((rows == rows[:, :1]).all())
    columns = found["bert.encoder.layer.0.output.dense.weight"]
    assert torch.equal(columns[0], rows[:, 0])
    single, weights = MovementScore(), BlockMovementScore()
    for score in (single, weights):
        score.reset(scores)
        score.observe(Observation(scores, grads, ones, 0))
    one, other = (score.scores(scores, ones) for score in (single, weights))
    assert all(torch.allclose(one[n], other[n]) for n in one)


def test_kin_whose_layers_are_made_otherwise_are_refused_by_the_part_that_they_lack():
    """EVA-02's query, key and value are layers of their own."""
    with torch.device("meta"):
        model = Eva(
            img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3,
            qkv_fused=False,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"blocks.0 has no attn.qkv: its heads cannot be removed"):
        structure_of(model, "head")
