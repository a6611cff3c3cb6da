"""How often one looks at validation: when, at what price, and that training does not notice."""

import pytest
import torch

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, prunable_parameters
from seven_bench.pruning.pruner import Settled
from seven_bench.settings.identity import identify, recipe_part
from seven_bench.testing import tiny
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import Recipe
from seven_bench.training.fit import fit
from seven_bench.training.pruning_callback import PruningCallback

EPOCHS = 5


class Looked(tiny.TinyModule):
    """Notes the epochs after which it is validated; `dies`: in this epoch's second batch."""

    dies = None

    def on_train_batch_start(self, batch, batch_idx):
        if (self.current_epoch + 1, batch_idx) == (self.dies, 1):
            raise KeyError("it is killed")

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if (self.current_epoch + 1, batch_idx) == (self.dies, 0):
            next(c for c in self.trainer.callbacks if isinstance(c, Checkpoint)).every = 0

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.looks = [*getattr(self, "looks", []), self.current_epoch + 1]


def trained(every, path=None, dies=None):
    """A BERT with dropout, which draws from the generator that a look draws from as well."""
    recipe = Recipe(EPOCHS, 0.01, 30, validate_every=every)
    module, data = Looked(tiny.start("bert"), recipe), tiny.tiny_data(0, 30)
    reset_process(0, 1, True)
    module.dies = dies
    params = prunable_parameters(module.model)
    callback = PruningCallback(params, Settled(MaskSet.ones(params)))
    checkpoint = Checkpoint(path, 1e9) if path is not None else None
    done = fit(
        module, data, callback, Context("accuracy", device=Device("cpu"), checkpoint=checkpoint)
    )
    return done, getattr(module, "looks", [])


def test_training_is_the_same_however_often_one_looks(tmp_path):
    often, looks = trained(1)
    assert looks == [1, 2, 3, 4, 5] and 0 < often.validation_seconds < often.seconds
    for every, expected in ((2, [2, 4, 5]), (9, [5]), (None, [])):
        done, looks = trained(every)
        assert looks == expected
        assert (done.validation_seconds > 0) == bool(expected)
        assert all(torch.equal(done.last[name], value) for name, value in often.last.items())
        path = tmp_path / f"{every}.ckpt"
        with pytest.raises(KeyError, match="it is killed"):
            trained(every, path, dies=4)
        resumed, looks = trained(every, path)
        assert looks == [epoch for epoch in expected if epoch >= 4]
        assert all(torch.equal(resumed.last[name], value) for name, value in often.last.items())
    assert (done.best_epoch, done.last_epoch) == (EPOCHS, EPOCHS)


def test_it_is_part_of_what_a_run_is_where_the_best_epoch_is_chosen(make_config):
    def what(*given):
        settings = make_config("logger=none", *given)
        return identify(settings).run_id, recipe_part(settings)

    often, seldom = (f"trainer.validate_every={n}" for n in (1, 4))
    assert what(often) == what(seldom) == what("trainer.validate_every=null")
    (often_id, often_recipe), (id, recipe) = what("select=best", often), what("select=best", seldom)
    assert id != often_id
    keys = {"trainer.validate_every": 4, "start.train.validate_every": 4}
    assert recipe == {**often_recipe, **keys}
    with pytest.raises(ConfigError, match=r"trainer\.validate_every=null: select=best chooses"):
        make_config("select=best", "trainer.validate_every=null")
