"""What is wrong with a setting is said in one line: key, value, what is allowed, what is near."""

import pytest

from seven_bench.errors import ConfigError
from seven_bench.settings.model import Settings
from seven_bench.settings.node import Node, role_of

WRONG = {
    "~seed": "seed is missing: allowed is a whole number from 0 to 4294967295",
    "~pruner": "pruner is missing, or no group of settings: allowed are dense,",
    "~task": "task is missing, or no group of settings: allowed are cifar10,",
    "seed=true": "seed=true: allowed is a whole number",
    "seed=1.0": "seed=1.0: allowed is a whole number",
    "seed=4294967296": "seed=4294967296: allowed is a whole number from 0 to 4294967295",
    "sparsity=null": "sparsity=null: allowed is a number in [0, 1), the fraction",
    "prunable=3": "prunable=3: allowed are the keys include, pattern",
    "prunable.include=3": "prunable.include=3: allowed is a list of pooler, patch_embedding",
    "prunable.include=[poler]": "include=poler: allowed is a list of pooler, patch_embedding; did",
    "data_root=3": "data_root=3: allowed is a text, or null",
    "output_root=''": "output_root=: allowed is a path",
    "+trainer.momentun=1": "trainer.momentun: no such key; known are accelerator,",
    "+foo=1": "foo: no such key; known are control,",
    "+task.foo=1": "task.foo: no such key; known are classes,",
    "shard=abc": "shard=abc: allowed is i/n",
    "shard=0/4": "shard=0/4: allowed is i/n",
    "shard=5/4": "shard=5/4: allowed is i/n",
    "progress=abc": "progress=abc: allowed is true or false",
    "dry_run=abc": "dry_run=abc: allowed is true or false",
    "trainer.optimizer=null": "trainer.optimizer=null: allowed are adamw, adamax, sgd",
    "select=null": "select=null: allowed are best, last",
    "trainer.momentum=-1": "trainer.momentum=-1: allowed is a number in [0, 1)",
    "trainer.lr=inf": "trainer.lr=inf: allowed is a number from 0",
    "trainer.max_epochs=2.5": "trainer.max_epochs=2.5: allowed is a whole number from 1",
    "trainer.devices=5000": "trainer.devices=5000: allowed is a whole number from 1 to 1024",
    "trainer.devices=1000": "trainer.devices=1000: allowed is a whole number from 1 to",
    "trainer.threads=4000": "trainer.threads=4000: allowed is a whole number from 1 to",
    "+task.data.workers=4000": "task.data.workers=4000: allowed is a whole number from 0 to",
    "pruner=snip pruner.calibration=3": "pruner.calibration=3: allowed are the keys examples,",
    "pruner=snip ~pruner.timing": "pruner.timing is missing: allowed are none, before,",
    "pruner=snip ~pruner.name": "pruner.name is missing",
    "pruner=snip ~pruner.score": "pruner.score is missing: pruner=snip prunes before training",
    "pruner=snip ~pruner.schedule": "pruner.schedule is missing: pruner=snip prunes before",
    "pruner=snip ~pruner.needs": "pruner.needs is missing: pruner=snip prunes before",
    "pruner=snip pruner.needs=[gradient]": "pruner.needs=gradient: allowed is a list of weights,",
    "pruner=snip pruner.name=dense": "pruner.name=dense: allowed is dense for the run that prunes",
    "pruner=dense pruner.name=snip": "pruner.name=snip: allowed is dense for the run that prunes",
    "pruner=snip pruner.name=magnitude": "that is the method whose score is baselines.magnitude",
    "task.name=..": "task.name=..: allowed is a name",
    "model.name=a/../b": "model.name=a/../b: allowed is a name",
    "pruner=lth pruner.rounds.fraction=1e-7": "23,025,850 rounds to sparsity=0.9; allowed are",
    "pruner=lth pruner.rounds.fraction=1": "rounds.fraction=1: allowed is a number in (0, 1), or",
    "finetune=lora ~finetune.rank": "finetune.rank: finetune=lora needs it",
    "+finetune.rank=4": "finetune.rank: finetune=full has no such key",
    "task.source.package=a.b": "task.source.package=a.b: allowed is the name of a package",
    "task.source.file=../x": "task.source.file=../x: allowed is a path below",
    "model.build.img_size=abc": "model.build.img_size=abc: allowed is a number",
    "+model.build.pretrained=true": "model.build.pretrained: no such key; known are",
    "+model.build.norm_layer=x": "model.build.norm_layer: no such key; known are",
    "model.build=3": "model.build=3: allowed is a _target_",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_what_is_wrong_is_one_line(make_config, overrides):
    with pytest.raises(ConfigError) as caught:
        make_config(*overrides.split(), "logger=none")
    assert WRONG[overrides] in str(caught.value)
    assert "\n" not in str(caught.value)


def leaves(kind):
    """All keys of settings by their dotted names, with whether each has a role."""
    for name, field in kind.model_fields.items():
        role = role_of(field)
        below = [part for part in (field.annotation, *_parts(field.annotation)) if _is_node(part)]
        if role is None and below:
            for key, found in leaves(below[0]):
                yield f"{name}.{key}", found
        else:
            yield name, role


def _parts(annotation):
    return getattr(annotation, "__args__", ())


def _is_node(part):
    return isinstance(part, type) and issubclass(part, Node)


def test_every_key_says_what_it_decides():
    roles = dict(leaves(Settings))
    assert len(roles) > 80
    assert [key for key, role in roles.items() if role is None] == []


def test_settings_go_to_a_file_and_back(make_config):
    for overrides in ("pruner=lth", "pruner=wanda finetune=lora", "task=glue/mnli model=tiny_bert"):
        settings = make_config(*overrides.split(), "logger=none")
        assert settings.changed() == settings
