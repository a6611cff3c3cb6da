"""`trainer.compile=true`: what is compiled, and what stays the plain model's."""

from functools import partial

import pytest
import torch

from seven_bench.errors import ConfigError
from seven_bench.testing.every_method import KILLED_AT, Killed, composed, equal, train
from seven_bench.training import compiled
from seven_bench.training.checkpoint import Checkpoint


@pytest.fixture
def traced(monkeypatch):
    """Code is traced as it would be compiled, but run by torch itself: seconds, not minutes. Gives
    the graphs that were run, with whether a gradient is taken of each.
    """
    graphs, real = [], torch.compile

    def backend(graph, examples):
        def run(*given):
            graphs.append(torch.is_grad_enabled())
            return graph.forward(*given)

        return run

    def stand_in(function, options, **more):
        assert options["deterministic"]
        return real(function, backend=backend, **more)

    monkeypatch.setattr(compiled.torch, "compile", stand_in)
    return graphs


@pytest.mark.parametrize("method", ["seven_dyn", "grasp"])
def test_training_steps_alone_are_compiled(method, traced, tmp_path):
    """The same run as without, bit for bit where the code is run as it stands, resumed too; the
    probe's graph is one more. Of scoring, second derivatives included, nothing is compiled.
    """
    plain = composed(method, "adamw")
    config = plain.changed(trainer__compile=True)
    expected = train(plain, "vit")
    assert not traced
    found = train(config, "vit")
    steps = 3 * -(-60 // config.trainer.batch_size)
    assert len(traced) == steps + 1 and all(traced)
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        train(config, "vit", checkpoint=Checkpoint(path, 1e9), kill_at=KILLED_AT)
    resumed = train(config, "vit", checkpoint=Checkpoint(path, 1e9))
    for other in (found, resumed):
        assert other.masks.hash() == expected.masks.hash()
        assert list(other.state) == list(expected.state)
        assert equal(other.state, expected.state) and other.metrics == expected.metrics


def test_where_torch_cannot_compile_it_is_said_before_the_first_step(monkeypatch):
    def fails(function, **_):
        return partial(fail)

    def fail(*_):
        raise RuntimeError("no compiler is found\nand more")

    monkeypatch.setattr(compiled.torch, "compile", fails)
    with pytest.raises(ConfigError, match=r"trainer.compile=true: .*no compiler is found\); allow"):
        train(composed("snip", "sgd").changed(trainer__compile=True), "vit")


@pytest.mark.parametrize("given", [("trainer.devices=2",), ("finetune=lora", "pruner=snip")])
def test_it_is_refused_where_the_model_is_not_plain(given, make_config):
    with pytest.raises(ConfigError, match=r"trainer\.compile=true: not with"):
        make_config("trainer.compile=true", "logger=none", *given)
