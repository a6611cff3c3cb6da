"""`seven_bench.prune`: the masks of a run, on any module, with nothing else moved."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BatchEncoding

from seven_bench import prune
from seven_bench.errors import ConfigError
from seven_bench.pruning import Score, prunable_parameters
from seven_bench.running.job import Job
from seven_bench.running.scoring import Calibration, score_and_prune
from seven_bench.settings.conf import choice, names_of
from seven_bench.testing import tiny
from seven_bench.testing.every_method import composed
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import recipe_of

METHODS = {name: choice(f"pruner/{name}") for name in names_of("pruner")}
BEFORE = [n for n, m in METHODS.items() if m["timing"] == "before" and "masks" not in m]


def as_a_run(method: str, model: str):
    """What a run of that method on a tiny model works on, and its settings."""
    settings = composed(method, "sgd").changed(sparsity=0.5, seed=3)
    recipe = recipe_of(settings)
    module, data = tiny.TinyModule(tiny.start(model), recipe), tiny.tiny_data(3, recipe.batch_size)
    reset_process(3, 1, True)
    params = prunable_parameters(module.model)
    return Job(settings, module, params, data, Context("accuracy", device=Device("cpu")))


@pytest.mark.parametrize("method", BEFORE)
def test_the_masks_and_weights_are_those_of_a_run(method):
    model = ("vit", "bert")[BEFORE.index(method) % 2]
    job = as_a_run(method, model)
    batches = list(Calibration(job).batches())
    wanted, _ = score_and_prune(job)
    other = as_a_run(method, model).module
    pruner = job.settings.pruner
    masks, summary = prune(
        other.model, batches, lambda _, batch: other.loss(batch), method, 0.5,
        schedule=pruner.schedule.plain(), seed=3,
    )  # fmt: skip
    assert masks.hash() == wanted.hash()
    for name, value in job.module.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    total = sum(kept_all for _, kept_all in summary.layers.values())
    assert sum(kept for kept, _ in summary.layers.values()) == total - round(0.5 * total)
    assert summary.sparsity["prunable"] == summary.sparsity["encoder"] == 0.5


class Mlp(nn.Module):
    """Of no family: two hidden layers, dropout between, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 10)
        self.head, self.dropout = nn.Linear(10, 3), nn.Dropout(0.5)

    def forward(self, x):
        return self.head(self.dropout(self.second(self.first(x).relu()).relu()))


def batches(count=4):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(5, 6, generator=generator), torch.arange(5) % 3) for _ in range(count)
    ]  # fmt: skip


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_a_module_of_no_family_by_pattern_and_by_function():
    """SNIP by hand: |w x mean gradient|, the largest half of both layers together."""
    model = Mlp().eval()
    total = sum(loss(model, batch) for batch in batches()) / 4
    layers = (model.first.weight, model.second.weight)
    grads = torch.autograd.grad(total, layers)
    scores = [(w * g).abs().flatten() for w, g in zip(layers, grads, strict=True)]
    kept = torch.cat(scores).argsort(descending=True)[:80]
    wanted = torch.zeros(160, dtype=torch.bool).index_fill_(0, kept, True)
    for prunable in ("first|second", lambda name, layer: layer.out_features == 10):
        masks, summary = prune(Mlp(), batches(), loss, "snip", 0.5, prunable=prunable)
        assert torch.equal(torch.cat([mask.flatten() for mask in masks.values()]), wanted)
        assert summary.left_out == ("head.weight",)
        assert summary.sparsity == {"prunable": 0.5, "model": 80 / (60 + 100 + 30 + 23)}
        assert summary.layers["first.weight"][1] == 60
        text = str(summary)
        assert "snip: 80 of 160 prunable weights kept" in text and "left out: head.weight" in text


@pytest.mark.parametrize("method", ["snip", "fisher", "random", "magnitude", "grasp"])
def test_nothing_else_moves_and_every_time_is_the_same(method):
    """Modes, gradients, the global generators; and a loader that shuffles is seeded."""
    data = torch.utils.data.TensorDataset(
        torch.cat([x for x, _ in batches()]), torch.arange(20) % 3
    )
    found = []
    for draw in (1, 2):
        model = Mlp()
        model.second.weight.requires_grad_(False)
        model.first.eval()
        torch.manual_seed(draw), random.seed(draw), np.random.seed(draw)
        state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        loader = torch.utils.data.DataLoader(data, 5, shuffle=True)
        with torch.no_grad():
            masks, _ = prune(model, loader, loss, method, 0.4, prunable="first|second", seed=7)
        found.append(masks.hash())
        assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]
        assert np.random.get_state()[1].tolist() == state[2]
        assert model.training and not model.first.training
        assert [p.requires_grad for p in model.parameters()] == [
            True,
            True,
            False,
            True,
            True,
            True,
        ]
        assert all(p.grad is None for p in model.parameters())
        fresh = Mlp()
        for name, mask in masks.items():
            assert torch.equal(model.get_parameter(name), fresh.get_parameter(name) * mask)
    assert found[0] == found[1]


def test_heads_go_with_their_biases():
    """Half of the 4 heads of the tiny ViT: a head is 8 rows of q, k and v, and 8 columns behind."""
    model = tiny.start("vit")
    for block in model.blocks:
        torch.nn.init.ones_(block.attn.qkv.bias)
    masks, summary = prune(model, method="magnitude", sparsity=0.5, pattern="head")
    assert summary.pattern == "head" and summary.sparsity["prunable"] == 0.5
    for place, block in enumerate(model.blocks):
        living = masks[f"blocks.{place}.attn.qkv.weight"].any(1)
        assert torch.equal(block.attn.qkv.bias != 0, living)


@pytest.mark.parametrize("method", ["fisher", "wanda", "snip"])
def test_a_batch_as_a_tokenizer_gives_it(method):
    """transformers' BatchEncoding, padded, is cut into examples and its padding left out."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, 17, (6, 5), generator=generator)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    batch["attention_mask"][:, 3:] = 0
    batch["labels"] = torch.arange(6) % 4
    found = [
        prune(tiny.start("bert"), [given], lambda model, b: model(**b).loss, method, 0.5)[0].hash()
        for given in (batch, BatchEncoding(batch))
    ]
    assert found[0] == found[1]
    changed = {**batch, "attention_mask": torch.ones_like(tokens)}
    masks, _ = prune(tiny.start("bert"), [changed], lambda m, b: m(**b).loss, method, 0.5)
    assert masks.hash() != found[0]


class Small(Score):
    """-|w|."""

    def scores(self, params, masks):
        return {name: -p.detach().float().abs() for name, p in params.items()}


def test_a_score_of_ones_own_and_options_as_the_files_have_them():
    masks, summary = prune(Mlp(), method=Small(), sparsity=0.25, prunable="second")
    size = Mlp().second.weight.detach().abs()
    assert summary.method == "Small"
    assert float(size[masks["second.weight"]].max()) < float(size[~masks["second.weight"]].min())
    rows, told = prune(Mlp(), method="magnitude", sparsity=0.5, prunable="second", pattern="row")
    assert told.pattern == "row" and rows["second.weight"].all(1).sum() == 5
    even, told = prune(Mlp(), method="magnitude", prunable="first|second", distribution="uniform")
    assert told.distribution == "uniform" and [int(m.sum()) for m in even.values()] == [6, 10]
    quick = {"start": "1it", "steps": "3it"}
    masks, _ = prune(Mlp(), batches(), loss, "seven_pre", prunable="second", schedule=quick)
    assert masks.kept == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "snap"}, "method='snap': allowed are .*snip"),
        ({"method": "seven_dyn"}, "seven_dyn: it prunes during training; .*snip"),
        ({"sparsity": 1.0}, "sparsity=1.0: allowed is a number from 0, below 1"),
        ({"prunable": None}, "Mlp is of no known family: .*first.weight, second.weight, head"),
        ({"prunable": "third"}, "none of the 3 weights"),
        ({"prunable": "("}, "unterminated"),
        ({"batches": None}, "snip: its score needs gradients: give batches and loss"),
        ({"method": "seven_pre"}, "seven_pre: .* 4 batches"),
        ({"pattern": "nm_2_4"}, "pattern=nm_2_4 fixes it at 0.5"),
        ({"score": {"a": 1}}, "SnipScore: a: no such key"),
        ({"schedule": {"_target_": "os.system"}}, "os.system: allowed is"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(arguments, said):
    given = {"batches": batches(), "loss": loss, "prunable": "first|second", **arguments}
    with pytest.raises(ConfigError, match=said):
        prune(Mlp(), **given)


def test_the_package_itself_imports_nothing():
    code = "import seven_bench, sys; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_model_whose_pruning_fails_halfway_is_whole_again():
    model = tiny.start("vit").train()
    before, seen = {n: v.clone() for n, v in model.state_dict().items()}, []

    def loss(model, batch):
        seen.append(any(bool((p == 0).any()) for p in prunable_parameters(model).values()))
        value = nn.functional.cross_entropy(model(batch[0]), batch[1])
        return value if len(seen) < 5 else value * float("nan")

    images = tiny.tiny_data(0).splits["train"].columns
    batches = [(images["pixel_values"][:4], images["labels"][:4])] * 6
    with pytest.raises(ValueError, match="the loss on a calibration batch is nan"):
        prune(model, batches, loss, "seven_pre", 0.5, schedule={"start": "0it", "steps": "6it"})
    assert seen[-1]  # some were gone by then
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_loss_of_each_example_is_refused():
    model = tiny.start("vit")
    images = tiny.tiny_data(0).splits["train"].columns
    batch = (images["pixel_values"][:4], images["labels"][:4])

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    with pytest.raises(ValueError, match=r"the loss of a batch is one number, not of shape \[4\]"):
        prune(model, [batch], loss, "snip", 0.5)


def test_synflow_passes_batch_norm_by():
    """By hand: without norms and biases the flow through w of the first layer is |w| times the sum
    of |v| over what its output feeds, so two weights into one unit are ranked by size.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2), nn.Linear(2, 1))
    first, second = (model[i].weight.detach().abs().double() for i in (0, 2))
    flow = first * second.T  # the inputs are ones
    batch = (torch.randn(4, 3), torch.randn(4, 1))
    masks, _ = prune(
        model, [(torch.ones(4, 3), batch[1])],
        lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
        "synflow_linearized", 0.5, prunable=r"^0\.weight",
    )  # fmt: skip
    assert masks["0.weight"].sum() == 3
    assert flow[masks["0.weight"]].min() > flow[~masks["0.weight"]].max()
