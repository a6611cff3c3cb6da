"""Bad input: one line that names the key, the value and what is allowed, before any work."""

import pytest

from tests.conftest import RUNS, program

CONFIG_ALONE = {
    "unknown pruner": (["pruner=nope"], ["pruner=nope", "snip", "seven_pre"]),
    "unknown task": (["task=nope"], ["task=nope", "digits", "cifar10"]),
    "unknown model": (["model=nope"], ["model=nope", "vit_digits"]),
    "unknown start": (["start=nope"], ["start=nope", "dense", "init"]),
    "sparsity of one": (["sparsity=1"], ["sparsity=1", "[0, 1)"]),
    "negative sparsity": (["sparsity=-0.1"], ["sparsity=-0.1", "[0, 1)"]),
    "sparsity no number": (["sparsity=high"], ["sparsity=high", "[0, 1)"]),
    "sparsity nan": (["sparsity=nan"], ["sparsity=nan", "[0, 1)"]),
    "negative seed": (["seed=-1"], ["seed=-1", "from 0"]),
    "typo of a key": (["sparsityy=0.5"], ["sparsityy", "did you mean sparsity"]),
    "typo of a group": (["prunner=snip"], ["prunner", "did you mean pruner"]),
    "typo below a group": (["trainer.lrr=1"], ["trainer.lrr", "did you mean trainer.lr"]),
    "fewer than no epochs": (["trainer.max_epochs=-1"], ["trainer.max_epochs=-1", "from 0"]),
    "unknown optimizer": (["trainer.optimizer=lion"], ["trainer.optimizer=lion", "adamw"]),
    "unknown precision": (["trainer.precision=8"], ["trainer.precision=8", "bf16-mixed"]),
    "start's own setting": (["start.train.max_epochs=-1"], ["start.train.max_epochs=-1", "from 0"]),
    "schedule beyond calibration": (
        ["pruner=seven_pre", "pruner.calibration.examples=320"],
        ["pruner=seven_pre", "120", "10"],
    ),
    "bad time": (["pruner=seven_pre", "pruner.schedule.start=soon"], ["'soon'", "'120it'"]),
    "data root without the files": (
        ["task=cifar10", "model=vit_tiny", "data_root=no/such/place"],
        ["data_root=no/such/place", "no/such/place/cifar10/train.parquet"],
    ),
    "output folder": (["output_root=/proc/nowhere"], ["/proc/nowhere"]),
    "target out of bounds": (["pruner=snip", "pruner.schedule._target_=os.system"], ["os.system"]),
    "bad override": (["sparsity"], ["sparsity"]),
    "shard": (["-m", "shard=3/2"], ["shard=3/2", "i/n"]),
    "no value to sweep": (["-m", "seed=range(0,0)"], ["seed=range(0,0)", "has no values"]),
    "no flag": (["-m", "dry_run=abc", "seed=0,1"], ["dry_run=abc", "true or false"]),
}
MODEL_BUILT = {
    "a score's own argument": (["pruner.score.signed=abc"], ["signed=abc", "boolean"]),
    "warm-up beyond the start of pruning": (
        ["start=init", "pruner.schedule.warmup=99ep"],
        ["schedule.warmup='99ep'", "pruning starts after"],
    ),
    "schedule beyond training": (
        ["start=init", "trainer.max_epochs=1", "pruner.schedule.start=30it"],
        ["schedule.start='30it'", "only 40 steps"],
    ),
    "no such part to prune": (["start=init", "prunable.include=[pooler]"], ["pooler", "has none"]),
    "no network and no data": (
        ["task=cifar10", "model=vit_tiny", "start=init"],
        ["data_root=", "hub"],
    ),
}
SLACK = 3  # for a slower machine; the limits themselves are 3 s and 10 s of processor time


#: Those in a new interpreter; the others find imported what the program imports before all else.
ANEW = ("sparsity of one", "no flag", "schedule beyond training")


def assert_one_line(arguments, told, limit, tmp_path, preload):
    if not any(argument.startswith("output_root=") for argument in arguments):
        arguments = [*arguments, f"output_root={tmp_path}"]
    done = program(*arguments, "logger=none", preload=preload)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.stdout + done.stderr
    for words in told:
        assert words in lines[0]
    assert not list(tmp_path.rglob("result.json"))
    assert done.seconds < limit  # of the processor: other work on the machine counts little


@pytest.mark.parametrize("name", CONFIG_ALONE)
def test_what_the_config_shows(name, tmp_path):
    preload = "" if name in ANEW else "seven_bench.commands.run"
    assert_one_line(*CONFIG_ALONE[name], 3 * SLACK, tmp_path, preload)


@pytest.mark.parametrize("name", MODEL_BUILT)
def test_what_needs_a_model(name, tmp_path):
    assert_one_line(*MODEL_BUILT[name], 10 * SLACK, tmp_path, "" if name in ANEW else RUNS)


def test_the_full_trace_on_demand(tmp_path):
    done = program("sparsity=2", f"output_root={tmp_path}", HYDRA_FULL_ERROR="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "ConfigError" in done.stderr


def test_a_missing_package_names_its_install_line(monkeypatch, make_config):
    import seven_bench.settings.checks as config
    from seven_bench.errors import ConfigError

    monkeypatch.setattr(config, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        make_config("logger=wandb")
