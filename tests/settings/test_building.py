"""What a run folder's config may name: the installed targets, with plain arguments alone."""

import importlib
import inspect
import pkgutil
import warnings
from pathlib import Path

import pytest
import yaml

from seven_bench.errors import ConfigError
from seven_bench.export.runs import Loaded
from seven_bench.running import worker
from seven_bench.running.sentinel_analysis import find_runs
from seven_bench.settings.building import build, targets
from seven_bench.settings.checks import stored
from seven_bench.settings.node import Target
from seven_bench.store.files import CONFIG
from seven_bench.store.finished import FinishedRun

HUBCONF = "import pathlib\n\ndef evil(*a, **k):\n    pathlib.Path({!r}).touch()\n"
SNIP = "seven_bench.baselines.snip.SnipScore"
LIBRARIES = ("torch", "timm", "transformers", "torchvision")


def exploits(folder: Path):
    """Two `model.build` that ran code of a stranger once."""
    (folder / "hubconf.py").write_text(HUBCONF.format(str(folder / "ran")))
    hub = {"_target_": "torch.hub.load", "repo_or_dir": str(folder), "model": "evil",
           "source": "local"}  # fmt: skip
    pickle = {"_target_": "torch.load", "f": str(folder / "x.pt"), "weights_only": False}
    return {"torch.hub.load": hub, "torch.load": pickle}


def folder_with(make_config, tmp_path, key, node):
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    config = make_config("pruner=snip", "logger=none").plain()
    group, _, name = key.partition(".")
    config[group][name] = node
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    return folder, config


@pytest.mark.parametrize("name", ["torch.hub.load", "torch.load"])
@pytest.mark.parametrize("key", ["model.build", "task.data", "task.module", "pruner.score"])
def test_a_strangers_config_runs_no_code(make_config, tmp_path, monkeypatch, name, key):
    folder, config = folder_with(make_config, tmp_path, key, exploits(tmp_path)[name])
    told = rf"config\.yaml: {key}\._target_={name}: allowed is what a file of the installed"
    run = FinishedRun(folder, {"run_id": "a/b/c/s0.9/seed0-x", "pruner": "snip"}, config)
    with pytest.raises(ConfigError, match=told):
        stored(folder)
    with pytest.raises(ConfigError, match=told):
        Loaded(run)
    analysis = "seven_bench.running.sentinel_analysis.find_finished"
    monkeypatch.setattr(analysis, lambda roots, unsealed=False: ([run], []))
    runs, problems = find_runs([folder])
    assert not runs and name in problems[0] and "\n" not in problems[0]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ConfigError, match=told):
        worker._part(folder, str(tmp_path / "meeting"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("key", "node", "told"),
    [
        ("model.build", {"_target_": "timm.create_model", "model_name": "hf-hub:a/b"}, "hf-hub"),
        ("model.build", {"_target_": "timm.create_model", "pretrained": True}, "pretrained"),
        ("model.build", {"_target_": "timm.create_model", "checkpoint_path": "x"}, "checkpoint"),
        ("model.build", {"_target_": "seven_bench.training.models.text_model", "head": "span",
                         "attn_implementation": "a/kernel"}, "attn_implementation"),
        ("model.build", {"_target_": "seven_bench.training.models.text_model",
                         "auto_map": {"AutoModel": "x.Y"}}, "auto_map.AutoModel"),
        ("pruner.score", {"_target_": SNIP,
                          "x": {"_target_": "torch.load"}}, "arguments that are names"),
        ("pruner.score", {"_target_": SNIP, "_args_": [1]}, "names"),
        ("pruner.name", "..", "pruner.name=.."),
        ("pruner.score", {"_target_": "seven_bench.pruning.OneShot"}, "pruner.score._target_="),
        ("pruner.schedule", {"_target_": SNIP}, "pruner.schedule._target_"),
        ("pruner.surprise", 1, "pruner.surprise: no such key"),
    ],
)  # fmt: skip
def test_arguments_of_a_strangers_config_are_plain(make_config, tmp_path, key, node, told):
    folder, _ = folder_with(make_config, tmp_path, key, node)
    with pytest.raises(ConfigError) as caught:
        stored(folder)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def callables(library: str):
    """Full names of what a library's modules hold that can be called."""
    package = importlib.import_module(library)
    names = [library]
    names += [
        module.name
        for module in pkgutil.iter_modules(package.__path__, f"{library}.")
        if not module.name.rpartition(".")[2].startswith("_")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            try:
                module = importlib.import_module(name)
            except Exception:  # a module that needs another library has nothing to call
                continue
            yield from (
                f"{name}.{key}"
                for key, value in list(vars(module).items())
                if callable(value) and not inspect.ismodule(value)
            )


def test_no_other_callable_of_a_library_is_reached():
    tried = [name for library in LIBRARIES for name in callables(library)]
    assert len(tried) > 2000
    reached = []
    for name in tried:
        try:
            build(Target(path=name), unknown_argument_of_a_test=1)
        except ConfigError as error:
            if "allowed is what a file" not in str(error):
                reached.append(name)
    assert set(reached) <= {"timm.create_model"}
    library = {name for name in targets() if not name.startswith("seven_bench.")}
    assert library == {"timm.create_model", "timm.models.vision_transformer.VisionTransformer"}


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"a1": "abc"}, "a1=abc: allowed is a valid number"),
        ({"signed": "abc"}, "signed=abc: allowed is a valid boolean"),
        ({"signed": 1}, "signed=1: allowed is a valid boolean"),
        ({"a3": 0.1}, "a3: no such key; known are a1, a2, signed, noise"),
    ],
)
def test_arguments_of_a_score_are_checked_against_its_signature(node, told):
    with pytest.raises(ConfigError) as caught:
        build(Target(path="seven_bench.pruning.SevenScore", arguments=node))
    assert told in str(caught.value)


def test_what_the_program_gives_is_no_setting(make_config):
    node = Target(path="seven_bench.data.digits.DigitsData", arguments={"seed": 1})
    with pytest.raises(ConfigError, match="seed is given by the program"):
        build(node, seed=0)
