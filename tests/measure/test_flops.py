"""MACs: torch's own counter under the math backend, and counts by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seven_bench.measure.flops import Macs, count_macs
from seven_bench.pruning import prunable_parameters
from seven_bench.testing.tiny import MODELS, TinyModule, start, tiny_data


@pytest.mark.parametrize("name", MODELS)
def test_dense_macs_are_half_of_torchs_flops_under_the_math_backend(name):
    module = TinyModule(start(name), recipe=None).eval()
    batch = tiny_data(0).example_batch(3)
    ours = count_macs(lambda: module.logits(module.model, batch), {}, {})
    flops = FlopCounterMode(display=False)
    with flops, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module.logits(module.model, batch)
    assert ours.dense == ours.masked == flops.get_total_flops() / 2 > 0


def test_a_masked_two_layer_model_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 3, 2, stride=2), nn.Flatten(), nn.Linear(12, 5))
    params = {"0.weight": model[0].weight, "2.weight": model[2].weight}
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in params.items()}
    masks["0.weight"].view(-1)[:7] = True  # of 12, each used at 2 x 2 places
    masks["2.weight"].view(-1)[:20] = True  # of 60
    found = count_macs(lambda: model(torch.zeros(2, 1, 4, 4)), params, masks)
    assert found == Macs(dense=2 * (4 * 12 + 60), masked=2 * (4 * 7 + 20))


def test_masks_count_for_linear_layers_alone_and_attention_stays():
    model = start("bert")
    params = prunable_parameters(model)
    nothing = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in params.items()}
    ids = torch.ones(1, 6, dtype=torch.int64)
    found = count_macs(lambda: model(input_ids=ids), params, nothing)
    encoder = 6 * sum(p.numel() for p in params.values())
    assert found.dense - found.masked == encoder
    pooler_and_classifier = 16 * 16 + 16 * 4
    attention = 2 * (2 * 6 * 6 * 16)  # two layers, q k and (q k) v, 16 wide over all heads
    assert found.masked == attention + pooler_and_classifier


def test_attention_as_one_module_by_hand():
    """A token that looks at seven, 8 wide: q of one, k and v of seven, all heads, the output."""
    module = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    one, seven = torch.ones(3, 1, 8), torch.ones(3, 7, 8)
    masks = {"in": torch.zeros(24, 8, dtype=torch.bool), "out": torch.ones(8, 8, dtype=torch.bool)}
    masks["in"][0, :5] = masks["in"][8, :3] = True  # five weights of q, three of k
    params = {"in": module.in_proj_weight, "out": module.out_proj.weight}
    found = count_macs(lambda: module(one, seven, seven), params, masks)
    attention = 7 * 2 * 8 + 64
    assert found.dense == 3 * (64 + 7 * 128 + attention)
    assert found.masked == 3 * (5 + 7 * 3 + attention)


def test_attention_between_unequal_lengths_by_hand():
    query, key, value = torch.ones(2, 3, 5, 8), torch.ones(2, 3, 7, 8), torch.ones(2, 3, 7, 4)
    found = count_macs(lambda: F.scaled_dot_product_attention(query, key, value), {}, {})
    assert found.dense == 2 * 3 * 5 * 7 * (8 + 4)


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a @ b,
        torch.matmul,
        torch.mm,
        lambda a, b: a.mm(b),
        lambda a, b: torch.addmm(torch.zeros(3, 5), a, b),
        lambda a, b: F.linear(a, b.t()),
    ],
)
def test_every_way_to_write_a_product_is_counted_once(product):
    found = count_macs(lambda: product(torch.ones(3, 4), torch.ones(4, 5)), {}, {})
    assert found.dense == 3 * 4 * 5


def test_a_product_that_is_not_known_is_refused():
    with pytest.raises(NotImplementedError, match="einsum"):
        count_macs(lambda: torch.einsum("ij,jk", torch.ones(2, 3), torch.ones(3, 2)), {}, {})
