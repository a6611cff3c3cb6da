"""What training costs where some weights are frozen."""

import pytest

from seven_bench.running.run import run
from seven_bench.settings.model import Tuning

EXAMPLES = 1259
QUICK = ("start=init", "trainer.max_epochs=1", "pruner=dense", "logger=none", "progress=false")
# Products of one image in vit_digits: 5 tokens of 64 numbers in 4 blocks, 4 heads of 16.
PATCHES, HEAD = 4 * 16 * 64, 64 * 10
LINEAR = 4 * 5 * (64 * 192 + 64 * 64 + 2 * 64 * 256)
ATTENTION = 4 * 2 * 4 * 5 * 5 * 16
FORWARD = PATCHES + LINEAR + ATTENTION + HEAD
BY_HAND = {
    "full": 3,
    "linear_probe": 1 + HEAD / FORWARD,  # the head's gradient, and nothing below it
    # gradients of activations down to the patches' bias, of both sides of attention's products
    "bitfit": 1 + (2 * HEAD + LINEAR + 2 * ATTENTION) / FORWARD,
}


@pytest.mark.parametrize("finetune", BY_HAND)
def test_what_is_frozen_is_not_billed(make_config, finetune):
    record = run(make_config(*QUICK, f"finetune={finetune}"))
    training = record["cost"]["example_equivalents"]["training"]
    assert training == pytest.approx(BY_HAND[finetune] * EXAMPLES, rel=1e-9)


def test_lora_and_trials_are_billed(make_config):
    config = make_config(*QUICK, "finetune=lora", "pruner=magnitude", "trainer.max_steps=2")
    tuning = Tuning(trials=4, space="some", chosen=("trainer.lr",), examples=1000.0)
    bill = run(config.model_copy(update={"tuning": tuning}))["cost"]["example_equivalents"]
    # a gradient of each whole weight is computed, for the parts that it is made of
    assert 2.9 < bill["training"] / 64 < 3.5
    assert bill["tuning"] == 1000
    assert bill["total"] == pytest.approx(bill["training"] + 1000)
