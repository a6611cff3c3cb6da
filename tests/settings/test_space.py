"""What may be tuned, and in what space."""

import pytest

from seven_bench.errors import ConfigError
from seven_bench.settings.conf import choice, names_of
from seven_bench.settings.identity import identify, method_part, recipe_part
from seven_bench.settings.model import Tuning
from seven_bench.settings.space import Choice, Range, read_space

RECIPE = choice("tune/recipe")
TUNED = [name for name in names_of("pruner") if choice(f"pruner/{name}").get("tune")]


def test_a_recipe_is_one_space_around_what_stands_there(make_config):
    space, present = read_space(RECIPE, make_config("pruner=snip", "trainer.lr=0.002"))
    assert space["trainer.lr"] == Range(0.2, 5, log=True, unit=0.002)
    assert space["trainer.gradient_clip"] == Choice((1.0, None))
    assert present == {
        "trainer.lr": 1.0, "trainer.lr_schedule": "linear", "trainer.warmup": 0.06,
        "trainer.gradient_clip": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", TUNED)
def test_a_method_starts_inside_its_own_space(make_config, name):
    config = make_config(f"pruner={name}")
    space, present = read_space(RECIPE, config)
    assert len(space) > len(RECIPE) and present.keys() == space.keys()
    assert identify(config) == identify(config.changed(pruner__tune={}))


def test_every_method_that_prunes_for_a_time_during_training_may_choose_how_long():
    """So that none has a knob that its own ablation, or a rival, has not. What is cut above zero
    has no sparsity of its own to be held to, and would be tuned to remove less.
    """
    presets = {name: choice(f"pruner/{name}") for name in names_of("pruner")}
    timed = {
        name
        for name, preset in presets.items()
        if preset["timing"] == "during" and preset.get("cut") != "above_zero"
    }
    assert len(timed) > 10
    assert timed == {
        name for name in TUNED if "schedule.steps" in presets[name]["tune"] and name in timed
    }


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({"seed": [0, 1]}, "tune: seed: allowed are keys of trainer., pruner.score."),
        ({"pruner.score.a9": [0, 1]}, "pruner=seven_dyn has no such key"),
        ({"trainer.lr_schedule": {"factor": [1, 2]}}, "a factor needs a number, which linear"),
        ({"trainer.lr": {"from": 1}}, "allowed are a list of values, {factor: "),
        ({"trainer.lr": []}, "allowed are a list of values"),
    ],
)
def test_what_cannot_be_tuned_is_said(make_config, plain, told):
    with pytest.raises(ConfigError) as caught:
        read_space(plain, make_config())
    assert told in str(caught.value)


def test_what_trials_chose_parts_no_runs_that_were_tuned_alike(make_config):
    def tuned(trials, *overrides):
        keys = ("trainer.lr", "pruner.score.a1")
        tuning = Tuning(trials=trials, space="recipe-1", chosen=keys, examples=trials * 100.0)
        return make_config(*overrides).model_copy(update={"tuning": tuning})

    one, other = tuned(8), tuned(8, "trainer.lr=0.01", "pruner.score.a1=0.6")
    assert recipe_part(one) == recipe_part(other) and method_part(one) == method_part(other)
    assert identify(one).run_id != identify(other).run_id
    assert recipe_part(one)["tuning.trials"] == 8 and "trainer.lr" not in recipe_part(one)
    for apart in (make_config(), tuned(16), tuned(8, "trainer.warmup=0.5")):
        assert recipe_part(apart) != recipe_part(one)


def test_only_a_recipe_or_a_score_can_have_been_chosen(make_config):
    with pytest.raises(ConfigError, match=r"tuning.chosen"):
        make_config("tuning.chosen=[task.train_examples]")
