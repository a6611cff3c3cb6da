"""Controls: each by hand, then on the digits as the program runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seven_bench.baselines.magnitude import MagnitudeScore
from seven_bench.baselines.snip import SnipScore
from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Observation, Params, Score, prune
from seven_bench.pruning.controls import (
    Inverted,
    MagnitudeQuotas,
    corrupted,
    exchanged,
    permuted,
)
from seven_bench.running.run import run
from seven_bench.store.masks import load_masks
from tests.conftest import SHORT


class Given(Score):
    """Scores that are given."""

    def __init__(self, given: Params) -> None:
        self.given = given

    def scores(self, params: Params, masks: Params) -> Params:
        return self.given


WEIGHTS = {"a": torch.tensor([[9.0, -8.0, 1.0]]), "b": torch.tensor([[0.5, -7.0, 6.0]])}
SCORES = {"a": torch.tensor([[1.0, 2.0, 3.0]]), "b": torch.tensor([[60.0, 50.0, 40.0]])}


def test_quota_swap_by_hand():
    # by score the best three are b; by magnitude 9, 8 of a and 7 of b
    method = prune(SCORES, MaskSet.ones(SCORES), 0.5)
    assert method["b"].all() and not method["a"].any()
    two_and_one = MaskSet({"a": torch.tensor([[False, True, True]]), "b": SCORES["b"] > 55})
    swapped = exchanged(two_and_one, "quota_swap", WEIGHTS, "unstructured", 0)
    assert swapped["a"].tolist() == [[True, True, False]], "counts of the method, largest |w|"
    assert swapped["b"].tolist() == [[False, True, False]]
    # the reverse: two of a and one of b, the best of each by score
    scores = MagnitudeQuotas(Given(SCORES)).scores(WEIGHTS, MaskSet.ones(SCORES))
    reverse = prune(scores, MaskSet.ones(SCORES), 0.5)
    assert reverse["a"].tolist() == [[False, True, True]]
    assert reverse["b"].tolist() == [[True, False, False]]


def test_a_stacked_qkv_is_three_layers():
    """Two of q, one of k, none of v live; each layer's own largest |w| take their places."""
    weights = {"qkv": torch.tensor([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0], [9.0, 9.0, 9.0]])}
    lives = torch.tensor([[True, True, False], [False, False, True], [False] * 3])
    swapped = exchanged(MaskSet({"qkv": lives}), "quota_swap", weights, "unstructured", 0, ["qkv"])
    assert swapped["qkv"].int().tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    shuffled = exchanged(MaskSet({"qkv": lives}), "shuffle", weights, "unstructured", 5, ["qkv"])
    assert shuffled["qkv"].sum(1).tolist() == [2, 1, 0] and not torch.equal(shuffled["qkv"], lives)
    # the reverse: magnitude's four are one of k and all of v; of k the method's best is the last
    given = {"qkv": torch.tensor([[90.0, 80.0, 70.0], [1.0, 2.0, 3.0], [0.1, 0.2, 0.3]])}
    scores = MagnitudeQuotas(Given(given), ["qkv"]).scores(weights, MaskSet.ones(given))
    assert scores["qkv"].tolist() == [[3.0, 2.0, 1.0], [4.0, 5.0, 6.0], [9.0, 9.0, 9.0]]
    reverse = prune(scores, MaskSet.ones(given), 5 / 9)
    assert reverse["qkv"].int().tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 1]]


def test_quotas_go_to_living_weights():
    living = MaskSet({"a": torch.tensor([[True, True, False]]), "b": torch.ones(1, 3) > 0})
    scores = MagnitudeQuotas(Given(SCORES)).scores(WEIGHTS, living)
    assert scores["a"][living["a"]].tolist() == [8.0, 9.0], "a removed weight takes a large one"


def test_invert_and_what_it_observes():
    inverted = Inverted(SnipScore())
    assert inverted.needs == SnipScore.needs
    inverted.reset(WEIGHTS)
    inverted.observe(Observation(WEIGHTS, SCORES, MaskSet.ones(WEIGHTS), 0))
    assert inverted.scores(WEIGHTS, {})["a"].tolist() == [[-9.0, -16.0, -3.0]]
    again = Inverted(SnipScore())
    again.reset(WEIGHTS)
    again.load_state_dict(inverted.state_dict())
    assert torch.equal(again.scores(WEIGHTS, {})["b"], inverted.scores(WEIGHTS, {})["b"])


def test_shuffle_keeps_the_layer_counts_and_the_pattern():
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(16, 16, generator=generator) for n in ("a", "b")}
    for pattern, sparsity in (("unstructured", 0.8), ("row", 0.8), ("nm_2_4", 0.5)):
        scores = MagnitudeScore().scores(weights, {})
        mode = "uniform" if pattern == "nm_2_4" else "global"
        masks = prune(scores, MaskSet.ones(weights), sparsity, mode, pattern)
        one, two = (exchanged(masks, "shuffle", weights, pattern, seed) for seed in (1, 2))
        assert one.summary() == masks.summary(), f"{pattern}: other layer counts"
        assert one.hash() != masks.hash() and one.hash() != two.hash(), f"{pattern}: not shuffled"
        assert exchanged(masks, "shuffle", weights, pattern, 1).hash() == one.hash()
        if pattern == "row":
            assert set(one["a"].sum(1).tolist()) <= {0, 16}, "rows are cut in pieces"
        if pattern == "nm_2_4":
            assert bool((one["a"].view(-1, 4).sum(1) == 2).all())
    assert exchanged(masks, "invert", weights, "unstructured", 0) is masks


def test_corrupted_labels_are_permuted_and_nothing_else():
    batch = {"x": torch.arange(8.0), "labels": torch.arange(8)}
    (one,), (two,) = (list(corrupted([batch], seed)) for seed in (1, 1))
    assert sorted(one["labels"].tolist()) == list(range(8))
    assert one["labels"].tolist() != list(range(8)), "labels are as they were"
    assert torch.equal(one["x"], batch["x"]) and torch.equal(one["labels"], two["labels"])
    spans = {"start_positions": torch.arange(5), "end_positions": torch.arange(5) + 10}
    (one,) = corrupted([spans], 0)
    assert torch.equal(one["end_positions"], one["start_positions"] + 10), "spans torn apart"
    with pytest.raises(ValueError, match="batches have no labels"):
        next(corrupted([{"x": batch["x"]}], 0))


def test_controls_on_digits(make_config):
    """Each leaves a record that says so; what it promises of the mask holds."""
    records, masks = {}, {}
    names = (
        "none", "shuffle", "reinit", "invert", "corrupt_labels", "quota_swap", "quota_swap_reverse"
    )  # fmt: skip
    for name in names:
        config = make_config(
            *SHORT, "pruner=snip", f"control={name}", "pruner.calibration.examples=64"
        )
        records[name] = run(config)
        assert records[name]["control"] == name
        assert records[name]["params"] == records["none"]["params"], f"{name}: another count"
        folder = f"{config.output_root}/runs/{records[name]['run_id']}"
        masks[name] = MaskSet(load_masks(f"{folder}/masks.safetensors"))
        state = load_file(f"{folder}/model.safetensors")
        assert all(bool((state[n][~m] == 0).all()) for n, m in masks[name].items()), name
    assert len({record["run_id"] for record in records.values()}) == len(names)
    hashes = {name: record["mask_hash"] for name, record in records.items()}
    assert hashes["reinit"] == hashes["none"], "reinit changes the mask"
    assert len(set(hashes.values())) == len(names) - 1, f"two controls are one: {hashes}"
    for name in ("shuffle", "quota_swap"):
        assert records[name]["layers"] == records["none"]["layers"], f"{name}: other layer counts"
    assert "blocks.0.attn.q" in records["none"]["layers"]
    config = make_config(*SHORT, "pruner=magnitude")
    reverse, magnitude = records["quota_swap_reverse"], run(config)
    assert reverse["layers"] == magnitude["layers"], "not magnitude's layer counts"
    share = sum(int((masks["none"][n] & masks["invert"][n]).sum()) for n in masks["none"])
    assert share == 0, "at 0.9 the best and the worst tenth have nothing in common"


def test_reinit_draws_other_weights_of_the_same_kind(make_config):
    """Trained for no step to speak of, a reinitialised model is far from its start."""
    found = {}
    for control in ("none", "reinit"):
        config = make_config(
            "start=init", "pruner=magnitude", f"control={control}", "trainer.max_epochs=1",
            "trainer.lr=1e-9", "trainer.max_steps=1", "logger=none", "progress=false",
        )  # fmt: skip
        record = run(config)
        folder = f"{config.output_root}/runs/{record['run_id']}"
        found[control] = load_file(f"{folder}/model.safetensors")
    name = "blocks.0.mlp.fc1.weight"
    one, other = found["none"][name], found["reinit"][name]
    living = one != 0
    assert bool((living == (other != 0)).all()), "another mask"
    assert float((one - other)[living].abs().mean()) > 0.005, "the same weights"


def test_layers_change_places_by_hand():
    """Each stack has an order of its own, which all parts of a layer share; a pooler stays."""
    params = {
        f"{tower}.layers.{layer}.{part}.weight": torch.full((2, 2), 10.0 * layer + offset)
        for tower in ("text", "vision")
        for layer in range(5)
        for offset, part in enumerate(("fc1", "fc2"))
    }
    params["pooler.dense.weight"] = torch.ones(2, 2)
    moved = permuted(params, 1)
    assert moved.keys() == params.keys() - {"pooler.dense.weight"}
    orders = []
    for tower in ("text", "vision"):
        one, two = (
            [int(moved[f"{tower}.layers.{layer}.{part}.weight"][0, 0]) for layer in range(5)]
            for part in ("fc1", "fc2")
        )
        assert sorted(one) == [0, 10, 20, 30, 40] and two == [value + 1 for value in one]
        orders.append(one)
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])
    unlike = {"blocks.0.a.weight": torch.ones(2), "blocks.1.a.weight": torch.ones(3)}
    with pytest.raises(ValueError, match=r"layers of blocks\. are not alike"):
        permuted(unlike, 0)


def test_controls_of_rounds_change_the_last_one_alone(make_config):
    """A ticket's mask with other weights: drawn anew, or those of other layers. Trained for no step
    to speak of."""
    found = {}
    for control in ("none", "reinit", "permute_layers"):
        config = make_config(
            "start=init", "pruner=lth", f"control={control}", "sparsity=0.3", "trainer.lr=1e-12",
            "trainer.max_epochs=1", "trainer.max_steps=1", "logger=none", "progress=false",
        )  # fmt: skip
        record = run(config)
        folder = f"{config.output_root}/runs/{record['run_id']}"
        found[control] = record["mask_hash"], load_file(f"{folder}/model.safetensors")
    assert len({mask for mask, _ in found.values()}) == 1
    levels = [path.parent.name for path in Path(config.output_root).glob("runs/*/*/*/*/*")]
    assert sorted(levels) == ["s0", "s0.2", "s0.3", "s0.3", "s0.3"], "a round below is not shared"
    own, drawn, moved = (state for _, state in found.values())
    fc1 = [f"blocks.{layer}.mlp.fc1.weight" for layer in range(4)]
    where = {name: own[name] != 0 for name in fc1}
    assert all(torch.equal(drawn[name] != 0, where[name]) for name in fc1)
    for name in fc1:
        near = [
            torch.allclose(moved[name][both], own[other][both], atol=1e-9)
            for other in fc1
            if (both := where[name] & where[other]).any()
        ]
        assert sum(near) == 1, "the weights of one layer, and of one alone"
        assert not torch.allclose(drawn[name][where[name]], own[name][where[name]], atol=1e-3)
    with pytest.raises(ConfigError, match=r"rounds\.rewind=1ep; allowed is start"):
        make_config("pruner=lth", "control=reinit", "pruner.rounds.rewind=1ep")
    with pytest.raises(ConfigError, match="prunes during; allowed is before, rounds"):
        make_config("pruner=seven_dyn", "control=reinit")
