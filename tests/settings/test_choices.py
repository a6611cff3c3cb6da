"""Every choice of every group composes, and what it names can be built: small, random, offline."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from seven_bench.data.making import make_data
from seven_bench.errors import ConfigError
from seven_bench.pruning import prunable_parameters
from seven_bench.settings.building import build
from seven_bench.settings.conf import conf_dir
from seven_bench.settings.identity import identify
from seven_bench.training.finetune import Recipe, make_optimizer
from seven_bench.training.start import finetune_of, starting_model
from tests.data.synthetic import write_for


def choices(group):
    folder = conf_dir() / group
    return sorted(str(f.relative_to(folder).with_suffix("")) for f in folder.rglob("*.yaml"))


def told(group, name, key):
    return OmegaConf.load(conf_dir() / group / f"{name}.yaml")[key]


BY_NAME = ("timm", "hf", "hf_clip")  # tests/settings/test_by_name.py
TASKS = choices("task")
MODELS = [name for name in choices("model") if name not in BY_NAME]
TINY = {"image": "tiny_vit", "text": "tiny_bert", "clip": "tiny_clip"}
EASY = {"image": ["cifar10"], "text": ["glue/mnli", "squad"], "clip": ["clip/cifar10"]}
SMALL = {  # overrides that make a model small, by the first word of its name
    "vit": ["+model.build.depth=1", "+model.build.embed_dim=32", "+model.build.num_heads=2"],
    "bert": [
        "model.build.hidden_size=32", "model.build.num_hidden_layers=1",
        "model.build.num_attention_heads=2", "model.build.intermediate_size=64",
    ],
    "distilbert": [
        "model.build.dim=32", "model.build.n_layers=1", "model.build.n_heads=2",
        "model.build.hidden_dim=64",
    ],
    "clip": [
        f"model.build.{tower}.{size}"
        for tower in ("text", "vision")
        for size in (
            "hidden_size=32", "num_hidden_layers=1", "num_attention_heads=2",
            "intermediate_size=64",
        )
    ],
    "tiny": [],
}  # fmt: skip
SMALL["deit"] = SMALL["vit"]
SMALL["minilm"] = SMALL["roberta"] = SMALL["bert"]


def small(model):
    if model in ("vit_digits", "vit_tiny"):  # not timm's by name: their YAML has the keys
        return [override.lstrip("+") for override in SMALL["vit"]]
    overrides = list(SMALL[model.split("_")[0]])
    if "tokenizer" in open_model(model):
        overrides.append("model.tokenizer=data")
    if told("model", model, "kind") == "text":
        overrides.append("model.build.vocab_size=300")
    elif not model.startswith("tiny"):
        overrides.append(f"model.image.size={56 if model == 'vit_focus' else 64}")  # whole patches
    return overrides


def open_model(model):
    return OmegaConf.load(conf_dir() / "model" / f"{model}.yaml")


def reduced(task):
    """Overrides for the made-up data."""
    if task.endswith("imagenet"):
        return ["task.classes=3", "task.image.size=32", "task.data.workers=0"]
    if task == "squad":
        return ["task.max_length=40", "task.stride=8"]
    return []


def own_text(root):
    return [f"data.train={root / 'own.csv'}", "data.text=review", "data.label=opinion"]


def prepared(make_config, root, task, model, *overrides):
    write_for(task, root)
    given = {"digits": [], "text": own_text(root), "images": [f"data_root={root / 'imagenet'}"]}
    data_root = given.get(task, [f"data_root={root}"])
    config = make_config(
        f"task={task}", f"model={model}", "start=init", "logger=none", "trainer.batch_size=4",
        *data_root, *reduced(task), *overrides,
    )  # fmt: skip
    data = make_data(config, 4)
    data.setup()
    built = starting_model(config, None)
    module = build(config.task.module, model=built, recipe=Recipe(1, 1e-3, 4))
    return data, module


def assert_works(data, module):
    """A step's gradient reaches every prunable weight, and an evaluation gives its metrics."""
    loss = module.loss(next(iter(data.train_dataloader())))
    loss.backward()
    params = prunable_parameters(module.model)
    assert torch.isfinite(loss) and all(p.grad is not None for p in params.values())
    module.eval()
    with torch.no_grad():
        batch = next(iter(data.test_dataloader()))
        predictions, targets = module.predictions(module.logits(module.model, batch), batch)
    assert len(predictions) == len(targets)
    metrics = module.metrics["test"]
    metrics.update(predictions, targets)
    values = {name.removeprefix("test/"): float(v) for name, v in metrics.compute().items()}
    assert all(-1 <= value <= 1 for value in values.values() if value == value)
    return values


@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_learned_by_a_tiny_model(make_config, tmp_path, task):
    data, module = prepared(make_config, tmp_path, task, TINY[told("task", task, "kind")])
    assert told("task", task, "metric")["name"] in assert_works(data, module)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_learn_tasks_of_its_kind(make_config, tmp_path, model):
    tasks = ["digits"] if model == "vit_digits" else EASY[told("model", model, "kind")]
    for task in tasks:
        data, module = prepared(make_config, tmp_path, task, model, *small(model))
        assert_works(data, module)
        assert all(p.dtype == torch.float32 for p in module.model.parameters())


@pytest.mark.parametrize("finetune", choices("finetune"))
def test_every_strategy_trains_something(make_config, tmp_path, finetune):
    config = make_config("pruner=snip", f"finetune={finetune}", "logger=none")
    model = build(config.model.build)
    strategy = finetune_of(config)
    assert make_optimizer(model, Recipe(1, 1e-3, 4), strategy).param_groups


@pytest.mark.parametrize("start", choices("start"))
def test_every_start_composes_and_has_an_identity(make_config, tmp_path, start):
    (tmp_path / "model.safetensors").write_bytes(b"")
    weights = ["model.pretrained=" + str(tmp_path)] if start == "pretrained" else []
    config = make_config(f"start={start}", "logger=none", *weights)
    assert config.start.kind == start
    assert identify(config).run_id.startswith("digits/vit_digits/")


def test_every_start_trains_its_dense_run_on_this_machine(make_config):
    """What starts share stands once: they had drifted."""
    for start in ("dense", "init"):
        given = ("trainer.checkpoint_every=7", "trainer.threads=2", "trainer.accelerator=cpu")
        train = make_config(f"start={start}", "logger=none", *given).start.train
        assert (train.checkpoint_every, train.threads, train.accelerator) == (7, 2, "cpu")


@pytest.mark.parametrize("pruner", choices("pruner"))
def test_every_method_can_be_built(make_config, pruner):
    config = make_config(f"pruner={pruner}", "sparsity=0.5", "logger=none")
    if config.pruner.timing != "none":
        build(config.pruner.score)
        build(config.pruner.schedule)


@pytest.mark.parametrize("group", ["trainer", "logger", "control", "experiment"])
def test_the_other_choices_compose(group, tmp_path):
    for name in choices(group):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = compose("config", overrides=[f"{group}={name}", f"output_root={tmp_path}"])
            OmegaConf.resolve(composed)


@pytest.mark.parametrize(
    ("task", "model", "told"),
    [
        ("glue/sst2", "vit_tiny", "one for text: bert_base, distilbert, hf"),
        ("clip/cifar10", "minilm", "one for clip: clip_vit_b16"),
        ("digits", "tiny_bert", "one for image: deit_small"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_those_that_fit(make_config, task, model, told):
    with pytest.raises(ConfigError, match=told):
        make_config(f"task={task}", f"model={model}", "logger=none")


PUBLISHED = {  # steps before pruning, of pruning, sparsity; github xiaojinying/SEVEN
    "mnli": (5400, 16600, 0.7), "qqp": (5400, 16600, 0.9), "rte": (200, 1000, 0.6),
    "qnli": (2000, 12000, 0.7), "mrpc": (300, 600, 0.5), "sst2": (1000, 4000, 0.6),
    "cola": (500, 1000, 0.5), "stsb": (500, 2000, 0.5),
}  # fmt: skip
TRAIN = {  # official training examples
    "mnli": 392_702, "qqp": 363_846, "rte": 2_490, "qnli": 104_743, "mrpc": 3_668, "sst2": 67_349,
    "cola": 8_551, "stsb": 5_749,
}  # fmt: skip


@pytest.mark.parametrize("name", choices("pruner"))
def test_a_method_is_no_recipe(make_config, name):
    """A preset says how a method prunes: it sets nothing outside of `pruner`."""
    found, dense = (make_config(f"pruner={one}", "logger=none") for one in (name, "dense"))
    for key in ("trainer", "task", "model", "start", "finetune", "select", "seed", "prunable"):
        assert getattr(found, key) == getattr(dense, key), f"pruner={name} sets {key}"
    text = (conf_dir() / "pruner" / f"{name}.yaml").read_text()
    assert "@package" not in text and found.pruner.name == name


def test_the_published_recipe_is_for_any_method(make_config, tmp_path):
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"")
    bert = ("model=bert_base", "start=pretrained", f"model.pretrained={tmp_path}")
    given = ("experiment=seven/recipe", "logger=none", *bert)
    snip = make_config(*given, "task=glue/rte", "pruner=snip")
    released = make_config(*given, "task=glue/rte", "pruner=seven_dyn_released")
    assert snip.trainer == released.trainer and snip.trainer.lr_schedule == "constant"
    assert snip.task == released.task and snip.model == released.model
    tiny = make_config("experiment=seven/recipe", "task=glue/rte", "model=tiny_bert", "start=init")
    model = build(tiny.model.build)
    assert model.dropout.p == 0 and model.bert.embeddings.dropout.p == 0.1


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_can_finish_on_the_official_data(make_config, tmp_path, name):
    from seven_bench.data.samplers import hold_out
    from seven_bench.training.finetune import optimizer_steps

    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_bytes(b"")
    config = make_config(f"experiment=seven/{name}", "logger=none", f"model.pretrained={tmp_path}")
    start, steps, sparsity = PUBLISHED[name]
    schedule, trainer = config.pruner.schedule, config.trainer
    assert (schedule.arguments["start"], schedule.arguments["steps"]) == (
        f"{start}it",
        f"{steps}it",
    )
    assert (config.sparsity, trainer.lr, trainer.batch_size) == (sparsity, 2e-5, 32)
    assert (trainer.lr_schedule, trainer.weight_decay, trainer.warmup) == ("constant", 0, 0)
    assert (trainer.gradient_clip, trainer.accumulate) == (None, 1)
    data = config.task.data.arguments
    assert (data["max_length"], data["group_by_length"]) == (512, False)
    assert config.model.build.arguments["classifier_dropout"] == (0.1 if name == "stsb" else 0)
    recipe = Recipe(trainer.max_epochs, 2e-5, 32)
    total, epoch = optimizer_steps(recipe, len(hold_out(TRAIN[name])[0]))
    build(schedule).plan(total, epoch)  # raises when it cannot finish
    can = 10 * epoch >= start + steps
    assert trainer.max_epochs == (10 if can else -(-(start + steps) // epoch))
    assert can == (name not in ("rte", "stsb"))
