"""2:4: what is not in the pattern is refused before a GPU is asked for."""

import pytest
import torch

from seven_bench.export.semi_structured import check_semi_structured, odd_group
from seven_bench.pruning import MaskSet, prunable_parameters, prune
from seven_bench.testing.tiny import start
from tests.store.test_packed import pruned


def two_of_four():
    model = start("bert")
    params = prunable_parameters(model)
    scores = {name: p.detach().abs() for name, p in params.items()}
    masks = prune(scores, MaskSet.ones(params), 0.5, distribution="uniform", pattern="nm_2_4")
    masks.apply_({name: p.data for name, p in params.items()})
    return model, masks


def test_the_pattern_is_seen():
    assert not odd_group(torch.tensor([[1.0, 0, 2, 0, 0, 0, 0, 3]]))
    assert odd_group(torch.tensor([[1.0, 0, 2, 3, 0, 0, 0, 0]]))
    assert odd_group(torch.zeros(2, 6))  # rows that fours do not fill


def test_an_unstructured_model_is_refused_by_name():
    model, masks = pruned("bert", 0.5)
    with pytest.raises(ValueError, match=r"weight is not 2:4 sparse: prune with pattern=nm_2_4"):
        check_semi_structured(model, masks)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    model, masks = two_of_four()
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        check_semi_structured(model, masks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_answers_agree():
    from seven_bench.export.semi_structured import DTYPE, make_semi_structured

    weight = torch.randn(256, 256)
    masks = prune(
        {"w": weight.abs()},
        MaskSet.ones({"w": weight}),
        0.5,
        distribution="uniform",
        pattern="nm_2_4",
    )
    layer = torch.nn.Linear(256, 256)
    layer.weight.data = weight * masks["w"]
    model = torch.nn.Sequential(layer)
    value = torch.randn(128, 256, device="cuda", dtype=DTYPE)
    with torch.inference_mode():
        wanted = value.float() @ layer.weight.data.cuda().t() + layer.bias.cuda()
        found = make_semi_structured(model, ["0.weight"])(value).float()
    torch.testing.assert_close(found, wanted, rtol=5e-2, atol=0.3)
