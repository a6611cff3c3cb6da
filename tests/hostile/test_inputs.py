"""What a user may type and should not: each is one line that names key, value and what is allowed.

All tables of wrong inputs are counted here; those of records and files stand where they are tried.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from seven_bench.commands.complaints import one_line
from seven_bench.errors import ConfigError
from seven_bench.running.dry_run import estimate
from seven_bench.running.run import run
from seven_bench.settings.checks import checked
from seven_bench.settings.conf import conf_dir
from tests.commands.test_errors import CONFIG_ALONE, MODEL_BUILT
from tests.data.test_rows import FEW, ODD_IMAGES, ODD_QUESTIONS
from tests.data.test_rows import WRONG as ROWS
from tests.hostile.test_damage import CASES
from tests.hostile.test_records import EVERY
from tests.hostile.test_texts import HOSTILE, ODD

#: Overrides, and words of the error.
WRONG = {
    "~seed": "seed is missing: allowed is a whole number from 0 to 4294967295",
    "~pruner": "pruner is missing, or no group of settings: allowed are ",
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
    "+foo=1": "foo: no such key; known are calibration, control,",
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
    "trainer.max_epochs=2.5": "trainer.max_epochs=2.5: allowed is a whole number from 0",
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
    "pruner=snip pruner.name=magnitude": "whose score is seven_bench.baselines.magnitude",
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
    "sparsity=2": "sparsity=2: allowed is a number in [0, 1), the fraction of weights to",
    "sparsity=-1e-9": "sparsity=-1e-09: allowed is a number in [0, 1), the fraction of weights",
    "sparsity=.nan": "sparsity=.nan: allowed is a number in [0, 1), the fraction of weights",
    "sparsity=true": "sparsity=true: allowed is a number in [0, 1), the fraction of weights",
    "sparsity=[0.5]": "sparsity=[0.5]: allowed is a number in [0, 1), the fraction of weights",
    "sparsity='0.5'": "sparsity=0.5: allowed is a number in [0, 1), the fraction of weights to",
    "seed=null": "seed=null: allowed is a whole number from 0 to 4294967295",
    "seed=abc": "seed=abc: allowed is a whole number from 0 to 4294967295",
    "seed=[0]": "seed=[0]: allowed is a whole number from 0 to 4294967295",
    "seed=-1": "seed=-1: allowed is a whole number from 0 to 4294967295",
    "seed=1e3": "seed=1000.0: allowed is a whole number from 0 to 4294967295",
    "trainer.lr=-1": "trainer.lr=-1: allowed is a number from 0 to 1e+30",
    "trainer.lr=abc": "trainer.lr=abc: allowed is a number from 0 to 1e+30",
    "trainer.lr=.nan": "trainer.lr=.nan: allowed is a number from 0 to 1e+30",
    "trainer.lr=true": "trainer.lr=true: allowed is a number from 0 to 1e+30",
    "trainer.max_epochs=-1": "trainer.max_epochs=-1: allowed is a whole number from 0 to",
    "trainer.max_epochs=null": "trainer.max_epochs=null: allowed is a whole number from 0 to",
    "trainer.max_epochs=10000000000": "trainer.max_epochs=10000000000: allowed is a whole",
    "trainer.max_epochs=abc": "trainer.max_epochs=abc: allowed is a whole number from 0 to",
    "trainer.batch_size=0": "trainer.batch_size=0: allowed is a whole number from 1 to 1048576",
    "trainer.batch_size=abc": "trainer.batch_size=abc: allowed is a whole number from 1 to",
    "trainer.batch_size=1.5": "trainer.batch_size=1.5: allowed is a whole number from 1 to",
    "trainer.weight_decay=-1": "trainer.weight_decay=-1: allowed is a number from 0 to 1000",
    "trainer.weight_decay=abc": "trainer.weight_decay=abc: allowed is a number from 0 to 1000",
    "trainer.gradient_clip=-1": "trainer.gradient_clip=-1: allowed is a number from 0 to",
    "trainer.gradient_clip=abc": "trainer.gradient_clip=abc: allowed is a number from 0 to",
    "trainer.precision=64": "trainer.precision=64: allowed are 32-true, bf16-mixed, 16-mixed",
    "trainer.precision=null": "trainer.precision=null: allowed are 32-true, bf16-mixed",
    "trainer.accelerator=abc": "trainer.accelerator=abc: allowed are auto, cpu, gpu",
    "trainer.accelerator=null": "trainer.accelerator=null: allowed are auto, cpu, gpu",
    "trainer.devices=0": "trainer.devices=0: allowed is a whole number from 1 to 1024",
    "trainer.devices=-1": "trainer.devices=-1: allowed is a whole number from 1 to 1024",
    "trainer.devices=abc": "trainer.devices=abc: allowed is a whole number from 1 to 1024",
    "trainer.devices=1.5": "trainer.devices=1.5: allowed is a whole number from 1 to 1024",
    "trainer.threads=0": "trainer.threads=0: allowed is a whole number from 1 to 4096, or null",
    "trainer.threads=abc": "trainer.threads=abc: allowed is a whole number from 1 to 4096, or",
    "trainer.accumulate=0": "trainer.accumulate=0: allowed is a whole number from 1 to 1048576",
    "trainer.warmup=2": "trainer.warmup=2: allowed is a number from 0 to 1",
    "trainer.deterministic=abc": "trainer.deterministic=abc: allowed is true or false",
    "trainer.checkpoint_every=-1": "trainer.checkpoint_every=-1: allowed is a number from 0 to",
    "trainer.checkpoint_every=abc": "trainer.checkpoint_every=abc: allowed is a number from 0",
    "trainer.optimizer=lion": "trainer.optimizer=lion: allowed are adamw, adamax, sgd",
    "trainer.optimizer=[sgd]": "trainer.optimizer=['sgd']: allowed are adamw, adamax, sgd; did",
    "~trainer.lr": "trainer.lr is missing: allowed is a number from 0 to 1e+30",
    "~trainer.optimizer": "trainer.optimizer is missing: allowed are adamw, adamax, sgd",
    "~task.name": "task.name is missing: allowed is a text",
    "~task.data": "task.data is missing: allowed is a _target_",
    "~task.module": "task.module is missing: allowed is a _target_",
    "~task.metric": "task.metric is missing: allowed are the keys name, higher_is_better",
    "~model.name": "model.name is missing: allowed is a text",
    "~model.build": "model.build is missing: allowed is a _target_",
    "task.classes=0": "task.classes=0: allowed is a whole number from 1 to 1000000",
    "task.classes=abc": "task.classes=abc: allowed is a whole number from 1 to 1000000",
    "task.classes=-1": "task.classes=-1: allowed is a whole number from 1 to 1000000",
    "task.metric=3": "task.metric=3: allowed are the keys name, higher_is_better, split",
    "task.metric.higher_is_better=abc": "task.metric.higher_is_better=abc: allowed is true or",
    "task.name=''": "task.name=: allowed is a name, which may have / inside, but no empty",
    "task.name=/etc": "task.name=/etc: allowed is a name, which may have / inside, but no",
    "task.name=3": "task.name=3: allowed is a text",
    "model.name=''": "model.name=: allowed is a name, which may have / inside, but no empty",
    "model.name=..": "model.name=..: allowed is a name, which may have / inside, but no empty",
    "task.data._target_=os.system": "task.data._target_=os.system: allowed is what a file of",
    "task.module._target_=builtins.eval": "task.module._target_=builtins.eval: allowed is what",
    "model.build._target_=torch.load": "model.build._target_=torch.load: allowed is what a",
    "model.build._target_=torch.hub.load": "model.build._target_=torch.hub.load: allowed is",
    "model.build._target_=null": "model.build={'_target_': None, 'img_size': 8, 'in_chans': 1",
    "model.build._target_=3": "model.build={'_target_': 3, 'img_size': 8, 'in_chans': 1",
    "pruner.score._target_=os.system": "pruner.score._target_=os.system: allowed is what a",
    "pruner.score._target_=subprocess.Popen": "pruner.score._target_=subprocess.Popen: allowed",
    "pruner.score._target_=seven_bench.nothing": "pruner.score._target_=seven_bench.nothing",
    "pruner.schedule._target_=pickle.loads": "pruner.schedule._target_=pickle.loads: allowed",
    "pruner.schedule=3": "pruner.schedule=3: allowed is a _target_, or null",
    "pruner.schedule=null": "pruner.schedule is missing: pruner=seven_dyn prunes during",
    "pruner.score=3": "pruner.score=3: allowed is a _target_, or null",
    "pruner.score=null": "pruner.score is missing: pruner=seven_dyn prunes during training, so",
    "pruner.timing=abc": "pruner.timing=abc: allowed are none, before, during, rounds, after",
    "pruner.timing=null": "pruner.timing=null: allowed are none, before, during, rounds",
    "pruner.needs=3": "pruner.needs=3: allowed is a list of weights, gradients",
    "pruner.needs=null": "pruner.needs=null: allowed is a list of weights, gradients",
    "pruner.name=null": "pruner.name=null: allowed is a text",
    "pruner.name=''": "pruner.name=: allowed is a name, which may have / inside, but no empty",
    "pruner.name=../x": "pruner.name=../x: allowed is a name, which may have / inside, but no",
    "pruner.name=3": "pruner.name=3: allowed is a text",
    "+pruner.schedule.foo=1": "seven_bench.pruning.Cubic: foo: no such key; known are start",
    "pruner=snip pruner.calibration.examples=0": "pruner.calibration.examples=0: allowed is a",
    "pruner=snip pruner.calibration.examples=abc": "pruner.calibration.examples=abc: allowed",
    "pruner=snip pruner.calibration.examples=null": "pruner.calibration.examples=null: allowed",
    "pruner=snip pruner.calibration.batch_size=0": "pruner.calibration.batch_size=0: allowed",
    "pruner=lth pruner.rounds.fraction=0": "pruner.rounds.fraction=0: allowed is a number in",
    "pruner=lth pruner.rounds.fraction=abc": "pruner.rounds.fraction=abc: allowed is a number",
    "pruner=lth pruner.rounds.rewind=abc": "pruner.rounds.rewind: time 'abc': allowed are",
    "pruner=lth pruner.rounds=3": "pruner.rounds=3: allowed are the keys fraction, rewind, of",
    "pruner=lth pruner.rounds=null": "pruner.rounds=null: pruner=lth prunes with",
    "pattern=abc": "pattern=abc: allowed are unstructured, nm_2_4, nm_4_8, block_1x4",
    "pattern=3": "pattern=3: allowed are unstructured, nm_2_4, nm_4_8, block_1x4",
    "distribution=3": "distribution=3: allowed are global, uniform, er, lamp, per_row, null",
    "finetune=lora finetune.rank=0": "finetune.rank=0: allowed is a whole number from 1 to",
    "finetune=lora finetune.rank=abc": "finetune.rank=abc: allowed is a whole number from 1 to",
    "finetune=lora finetune.alpha=-1": "finetune.alpha=-1: allowed is a number in (0, 1e+06]",
    "select=first": "select=first: allowed are best, last",
    "select=3": "select=3: allowed are best, last",
    "start.weights=3": "start.weights=3: allowed is a text, or the keys package, folder, hub",
    "start.train=3": "start.train=3: allowed are the keys max_epochs, max_steps, lr",
    "start.train.max_epochs=-1": "start.train.max_epochs=-1: allowed is a whole number from 0",
    "start.train.lr=-1": "start.train.lr=-1: allowed is a number from 0 to 1e+30",
    "data_root=''": "data_root=: allowed is a path",
    "data_root=[a]": "data_root=['a']: allowed is a text, or null",
    "output_root=null": "output_root=null: allowed is a text",
    "output_root=3": "output_root=3: allowed is a text",
    "output_root=[a]": "output_root=['a']: allowed is a text",
    "logger.name=abc": "logger.name=abc: allowed are none, wandb",
    "progress=null": "progress=null: allowed is true or false",
    "progress=3": "progress=3: allowed is true or false",
    "dry_run=3": "dry_run=3: allowed is true or false",
    "retry_failed=abc": "retry_failed=abc: allowed is true or false",
    "shard=3": "shard=3: allowed is a text, or null",
    "shard=1/0": "shard=1/0: allowed is i/n with i from 1 to n, such as 1/4, or null",
    "shard=-1/2": "shard=-1/2: allowed is i/n with i from 1 to n, such as 1/4, or null",
    "shard=a/b": "shard=a/b: allowed is i/n with i from 1 to n, such as 1/4, or null",
    "prunable=null": "prunable=null: allowed are the keys include, pattern",
    "prunable.include=[3]": "prunable.include=3: allowed is a list of pooler, patch_embedding",
    "prunable.include=null": "prunable.include=null: allowed is a list of pooler",
    "prunable.pattern=3": "prunable.pattern=3: allowed is a text, or null",
    "prunable.pattern='['": "prunable.pattern=[: allowed is a regular expression (unterminated",
    "+task.data.workers=-1": "task.data.workers=-1: allowed is a whole number from 0",
    "+task.data.workers=abc": "task.data.workers=abc: allowed is a whole number from 0",
    "task.source=3": "task.source=3: allowed are the keys hub, config, files, package, file",
    "task.source=null": "task.source=null: allowed are the keys hub, config, files, package",
    "task.source.file=/etc/passwd": "task.source.file=/etc/passwd: allowed is a path below",
    "task.kind=abc": "model=vit_digits is for image tasks, task=digits needs one for abc: ",
    "task.kind=null": "task.kind=null: allowed are image, text, clip",
    "model.kind=abc": "model=vit_digits is for abc tasks, task=digits needs one for image",
    "+model.foo=1": "model.foo: no such key; known are build, image, kind, name, pad_to",
    "+start.foo=1": "start.foo: no such key; known are budget, from, kind, train, weights",
    "+finetune.foo=1": "finetune.foo: no such key; known are alpha, decay, distill",
    "+prunable.foo=1": "prunable.foo: no such key; known are include, pattern",
    "+logger.foo=1": "logger.foo: no such key; known are ",
    "+task.source.foo=1": "task.source.foo: no such key; known are config, file, files, hub",
    "+task.metric.foo=1": "task.metric.foo: no such key; known are higher_is_better, name",
    "task.recipe=3": "task.recipe=3: allowed are the keys init, pretrained, after_start",
    "~task.recipe": "task.recipe is missing: allowed are the keys init, pretrained, after_start",
    "task.recipe.init=3": "task.recipe.init=3: allowed are the keys max_epochs, lr, batch_size",
    "task.recipe.init.lr=-1": "task.recipe.init.lr=-1: allowed is a number from 0 to 1e+30",
    "+task.recipe.foo={}": "task.recipe=foo: allowed are the keys init, pretrained, after_start",
    "+task.source.files.a=3": "task.source.files.a=3: allowed is a text",
    "task.image=3": "task.image=3: allowed are the keys size, channels, patch, or null",
    "start.from=dense": "start.from=dense: allowed are init, pretrained",
    "task.metric.name=abc": "task.metric.name=abc: allowed are accuracy, loss",
    "task.source.package=os": "task.source.package=os: task=digits needs a package that holds",
    "task.source.package=__main__": "task.source.package=__main__: task=digits needs a",
    "task.source.package=numpy": "task.source.package=numpy: task=digits needs datasets/data/",
    "pruner.schedule.start=-3": "pruner.schedule.start=-3: allowed are '120it', '2ep' or a",
    "pruner.schedule.start=3": "pruner.schedule.start=3: allowed are '120it', '2ep' or a fraction",
    "pruner.schedule.start=2h": "pruner.schedule.start='2h': allowed are '120it', '2ep' or a",
    "pruner.schedule.start=-1it": "pruner.schedule.start='-1it': allowed are '120it', '2ep' or a",
    "pruner.schedule.start=0.9": "schedule.steps=0.5 are more than all steps: allowed is a sum up",
    "pruner.schedule.steps=0": "pruner.schedule.steps=0: allowed are '120it', '2ep' or a fraction",
    "pruner.schedule.steps=0ep": "pruner.schedule.steps='0ep': allowed are '120it', '2ep' or a",
    "pruner.schedule.steps=.inf": "pruner.schedule.steps='.inf': allowed are '120it', '2ep' or",
    "+pruner.schedule.every=0": "pruner.schedule.every=0: allowed is a whole number from 1",
    "+pruner.schedule.window=0it": "pruner.schedule.window='0it': allowed are '120it', '2ep' or",
    "pruner=snip +pruner.schedule.at=2": "pruner.schedule.at=2: allowed are '120it', '2ep' or a",
    "pruner=gmp_star pruner.schedule.initial=2": "pruner.schedule.initial=2: allowed is a number",
    "+trainer.foo=1": "trainer.foo: no such key; known are accelerator, accumulate",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_what_is_wrong_is_one_line(make_config, overrides: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(*overrides.split(), *([] if "logger" in overrides else ["logger=none"]))
    assert WRONG[overrides] in str(caught.value)
    assert "\n" not in str(caught.value)


#: What Hydra itself refuses while it composes, as the command line is given it.
COMPOSED = {
    "trainer=null": "trainer=null: allowed are default",
    "trainer=3": "trainer=3: allowed are default",
    "pruner=null": "pruner=null: allowed are ",
    "logger=1e3": "logger=1e3: allowed are none, wandb",
    "prunable=[pooler]": "prunable=[pooler]: allowed are the keys include, pattern, such as",
    "task.recipe=[1]": "task.recipe=[1]: allowed are the keys init, pretrained, after_start",
    "trainer.lrr=1": "trainer.lrr: no such key; did you mean trainer.lr?",
}


@pytest.mark.parametrize("override", COMPOSED)
def test_what_does_not_compose_is_one_line(
    make_config, override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["seven-bench", "seed=0", override])
    with pytest.raises(Exception, match=r"\w") as caught:
        make_config(override, *([] if "logger" in override else ["logger=none"]))
    told = one_line(caught.value)
    assert told.startswith(COMPOSED[override]) and "\n" not in told


#: A method's file in a folder of one's own, and words of the error.
FILES = {
    "no timing": ("timing", "pruner.timing is missing: allowed are none, before, during"),
    "no name": ("name", "pruner.name is missing: allowed is a text"),
    "no score": ("score", "pruner.score is missing: pruner=snip prunes before training, so its"),
    "no schedule": ("schedule", "pruner.schedule is missing: pruner=snip prunes before training"),
    "no needs": ("needs", "pruner.needs is missing: pruner=snip prunes before training, so its"),
    "nothing": ("", "pruner.name is missing: allowed is a text"),
    "a list": ("- a", "pruner is missing, or no group of settings: allowed are "),
    "cut": ("name: [", "/pruner/mine.yaml, line 1: expected the node content"),
    "a tab": ("\tname: x", "/pruner/mine.yaml, line 1: found character '\\t' that cannot start"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_method_is_one_line(name: str, tmp_path: Path) -> None:
    what, words = FILES[name]
    whole = (conf_dir() / "pruner" / "snip.yaml").read_text().splitlines()
    kept = [line for line in whole if what and not line.startswith(f"{what}:")]
    text = "\n".join(kept) if name.startswith("no ") else what
    (tmp_path / "pruner").mkdir()
    (tmp_path / "pruner" / "mine.yaml").write_text(text)
    searched = f"hydra.searchpath=[file://{tmp_path}]"

    def compose_it() -> None:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            given = [searched, "pruner=mine", "logger=none", f"output_root={tmp_path}"]
            checked(compose("config", overrides=given))

    with pytest.raises(Exception, match=r"\w") as caught:
        compose_it()
    told = one_line(caught.value)
    assert words in told and "\n" not in told


#: A score's own arguments: known once its class is, before any work.
SCORES = {
    "+pruner.score.foo=1": "seven_bench.pruning.SevenScore: foo: no such key; known are a1, a2,",
    "pruner.score.a1=abc": "seven_bench.pruning.SevenScore: a1=abc: allowed is a valid number",
    "pruner.score.signed=1": "seven_bench.pruning.SevenScore: signed=1: allowed is a valid boolean",
    "pruner.needs=[weights]": "pruner.needs: the file of pruner=seven_dyn says weights, its class",
}


@pytest.mark.parametrize("overrides", SCORES)
def test_what_a_score_does_not_take_is_one_line(make_config, overrides: str) -> None:
    settings = make_config(overrides, "logger=none")
    with pytest.raises(ConfigError) as caught:
        estimate(settings, {})
    with pytest.raises(ConfigError) as again:
        run(settings)
    assert str(caught.value) == str(again.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(SCORES[overrides])


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 150
    counts = [
        *map(len, (WRONG, COMPOSED, SCORES, CONFIG_ALONE, MODEL_BUILT)),
        *map(len, (FILES, ROWS, FEW, ODD_QUESTIONS, ODD_IMAGES)),
        *map(len, (EVERY, CASES, ODD, HOSTILE)),
    ]
    assert sum(counts) >= 400, counts
