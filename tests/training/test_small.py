"""Small dense models: sizes by hand, layers of the start, and runs that spend what others do."""

import pytest
import torch
from safetensors.torch import load_file

from seven_bench.errors import ConfigError
from seven_bench.export.runs import export_run
from seven_bench.measure.flops import count_macs
from seven_bench.pruning import prunable_parameters
from seven_bench.running.run import run
from seven_bench.settings.identity import identify, recipe_part
from seven_bench.store.finished import open_run
from seven_bench.training.small import (
    Tower,
    _evenly,
    choose_small,
    keep_layers,
    run_model,
    tell_small,
    whole_model,
)
from tests.conftest import SHORT
from tests.data.synthetic import write_for
from tests.training.test_resume import QUICK, check_killed_equals_whole, kill_at  # noqa: F401

BRIEF = ("start.train.max_epochs=1", "trainer.max_epochs=1", *SHORT[2:])


def count(model) -> int:
    return sum(p.numel() for p in prunable_parameters(model).values())


def test_width_by_hand(make_config):
    """vit_digits has 4 layers of 4 d^2 + 2 d h weights: 196,608 at d = 64, h = 256."""
    config = make_config("pruner=small_width", "sparsity=0.9")
    found = choose_small(config)
    assert found.asked == 19_661
    assert found.towers == (Tower(20, 1, 82),)  # 4 (4 20^2 + 2 20 82); a head of 16 before
    assert found.reached == 19_520 == count(run_model(config))
    assert found.asked < 4 * (4 * 20**2 + 2 * 20 * 83)  # an MLP wider by one is too much
    assert found.asked < 4 * (4 * 21**2 + 2 * 21 * 84)  # and so is a model wider by one
    whole = choose_small(make_config("pruner=small_width", "sparsity=0"))
    assert whole.towers == (Tower(64, 4, 256),) and whole.reached == whole.asked


def test_macs_by_hand(make_config):
    """A token costs each weight once: half of BERT's at 16 tokens, all of its attention."""
    given = ("model=tiny_bert", "task=glue/rte", "task.max_length=16")
    config = make_config("pruner=small_width", "pruner.small.match=macs", "sparsity=0.5", *given)
    found, whole = choose_small(config), whole_model(config)
    linear, attention = 2 * (4 * 32**2 + 2 * 32 * 64), 2 * 2 * 16**2 * 32
    pooler_and_head = 32**2 + 32 * 2
    assert found.asked == 16 * linear // 2 + attention + pooler_and_head
    tokens = torch.zeros(1, 16, dtype=torch.long)
    small = run_model(config)
    assert found.reached == count_macs(lambda: small(input_ids=tokens), {}, {}).dense
    assert 0.97 * found.asked < found.reached <= found.asked
    assert whole.config.hidden_size == 32  # untouched


@pytest.mark.parametrize(
    "given",
    [("model=tiny_vit",), ("model=tiny_bert", "task=glue/rte"), ("model=distilbert",
     "task=glue/rte", "start=init"),
     ("model=tiny_clip", "task=clip/cifar10")],
    ids=lambda given: given[0],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["width", "depth"])
def test_as_many_weights_as_are_kept(make_config, tmp_path, given, kind, monkeypatch):
    task = dict(o.split("=") for o in given).get("task", "digits")
    write_for(task, tmp_path / "data")
    monkeypatch.setattr("seven_bench.settings.checks.locate", lambda *_: None)
    monkeypatch.setattr("seven_bench.settings.identity.fingerprint_of_weights", str)
    config = make_config(
        f"pruner=small_{kind}", "sparsity=0.5", f"data_root={tmp_path}/data", *given
    )
    with torch.device("meta"):
        model = run_model(config)
    total = count(whole_model(config))
    assert count(model) == choose_small(config).reached <= total - total // 2
    assert count(model) >= (0.9 if kind == "width" else 0.49) * total / 2


def test_depth_keeps_layers_of_the_start(make_config):
    config = make_config("pruner=small_depth", "sparsity=0.25")
    whole = run_model(config.changed(pruner__small=None))
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    assert choose_small(config).layers == ((0, 2, 3),)  # 3 of 4: 0, 1.5 and 3, halves go up
    small = keep_layers(whole, config).state_dict()
    for now, then in enumerate((0, 2, 3)):
        for kind in ("attn.qkv.weight", "mlp.fc1.bias"):
            assert torch.equal(small[f"blocks.{now}.{kind}"], state[f"blocks.{then}.{kind}"])
    assert torch.equal(small["head.weight"], state["head.weight"])
    assert not any(name.startswith("blocks.3.") for name in small)


def test_layers_are_spread_from_first_to_last():
    assert _evenly(6, 12) == (0, 2, 4, 7, 9, 11)  # every 11/5: 0, 2.2, 4.4, 6.6, 8.8, 11
    assert _evenly(12, 12) == tuple(range(12)) and _evenly(1, 12) == (0,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("pruner=small_depth", "sparsity=0.9"), "19,661 prunable weights to fill, and a layer has "
         "49,152: allowed is a smaller sparsity"),
        (("pruner=small_depth", "sparsity=0.9", "pruner.small.match=macs"), "MACs to fill"),
        (("pruner=small_width", "sparsity=0.99999"), "and a model of width 1 has"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_any_work(make_config, given, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        run(make_config(*given))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("pruner=small_width", "finetune.distill=true"), "would need two dense runs"),
        (("pruner=snip", "+pruner.small={kind: width}"), "allowed is timing=none"),
        (("pruner=small_width", "pruner.name=dense"), "allowed is dense for the run that prunes"),
        (("pruner=small_width", "pruner.name=snip"), "small.kind=null, not width"),
        (("pruner=small_width", "pruner.small.kind=depth"), "small.kind=width, not depth"),
        (("pruner=small_width", "pruner.small.match=flops"), "allowed are params, macs"),
    ],
)
def test_settings_that_do_not_go_together(make_config, given, words):
    with pytest.raises(ConfigError, match=words):
        make_config(*given)


def test_the_bill_recipe_and_record_are_those_of_a_pruned_run(make_config):
    """Two stages of one epoch each: the dense start's, small or whole, and the run's own."""
    given = ("sparsity=0.5", *BRIEF)
    dense, width, depth = (
        make_config(f"pruner={name}", *given) for name in ("dense", "small_width", "small_depth")
    )
    bills = [run(config)["cost"]["example_equivalents"] for config in (dense, width, depth)]
    assert bills[0] == bills[1] == bills[2] and bills[0]["start"] == bills[0]["training"] > 0
    assert recipe_part(dense) == recipe_part(width) == recipe_part(depth)
    folder = identify(width).folder(width.output_root)
    record = run(width)  # which is there
    assert record["start"] == "dense" and record["small"] == tell_small(width)
    assert record["small"]["width_heads_mlp"] == [[45, 3, 183]]  # 4 (4 45^2 + 2 45 183) = 98,280
    assert record["params"]["kept"] == 98_280 and record["params"]["prunable"] == 196_608
    assert record["sparsity"]["prunable"] == 1 - 98_280 / 196_608
    macs = record["efficiency"]["macs"]
    assert macs["dense"] == macs["masked"]
    plain = run_model(width)
    plain.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    assert count(plain) == 98_280
    exported = export_run(open_run(folder), "packed", [1])
    assert exported.difference == 0
    assert identify(width).run_id != identify(width.changed(pruner__small__match="macs")).run_id


def test_killed_equals_uninterrupted(make_config, kill_at, tmp_path):  # noqa: F811
    given = ("pruner=small_width", "sparsity=0.9", *QUICK[:1], "trainer.max_epochs=2", *QUICK[2:])
    check_killed_equals_whole(make_config, kill_at, tmp_path, *given)
