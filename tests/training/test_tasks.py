"""Whole runs of every kind of task, on made-up data and tiny models."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file

from seven_bench.data.making import make_data
from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, kept_count, prunable_parameters
from seven_bench.running.job import Job
from seven_bench.running.prune_and_train import train_pruned
from seven_bench.running.run import run
from seven_bench.settings.building import build
from seven_bench.settings.checks import checked
from seven_bench.settings.conf import conf_dir
from seven_bench.settings.identity import dense_start, identify
from seven_bench.settings.validity import takes_masks
from seven_bench.store.masks import load_masks
from seven_bench.store.predictions import read_predictions
from seven_bench.store.record import read_record
from seven_bench.testing.every_method import given_masks
from seven_bench.testing.tiny import write_masks_at
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import recipe_of
from seven_bench.training.start import starting_model
from tests.data.synthetic import write_for

SHORT = (
    "logger=none", "progress=false", "trainer.threads=1", "trainer.accelerator=cpu",
    "trainer.max_epochs=1", "trainer.batch_size=8", "trainer.lr=1e-3",
)  # fmt: skip
CALIBRATED = ("pruner.calibration.examples=16", "pruner.calibration.batch_size=8")
TASKS = {  # task: (model, metrics beside loss)
    "cifar10": ("tiny_vit", {"accuracy"}),
    "glue/sst2": ("tiny_bert", {"accuracy"}),
    "glue/mrpc": ("tiny_bert", {"accuracy", "f1"}),
    "glue/cola": ("tiny_bert", {"accuracy", "matthews"}),
    "glue/stsb": ("tiny_bert", {"pearson", "spearman"}),
    "glue/mnli": ("tiny_bert", {"accuracy", "accuracy_mismatched"}),
    "squad": ("tiny_bert", {"exact_match", "f1"}),
    "clip/cifar10": ("tiny_clip", {"accuracy"}),
}


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """All the made-up data; other starts and models share it."""
    root = tmp_path_factory.mktemp("data")
    for task in TASKS:
        write_for(task, root)
    return root


@pytest.fixture
def config_of(make_config, data_root):
    def make(task, *overrides, model=None):
        more = ["task.max_length=40", "task.stride=8"] if task == "squad" else []
        return make_config(
            f"task={task}", f"model={model or TASKS[task][0]}", f"data_root={data_root}",
            *more, *SHORT, *overrides,
        )  # fmt: skip

    return make


def folder_of(config) -> Path:
    return identify(config).folder(config.output_root)


def batch_of(config, split="test"):
    data = make_data(config, 8)
    data.setup()
    return next(iter(data.test_dataloader()))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_every_kind_of_task(config_of, task):
    config = config_of(task, "start=init", "pruner=snip", "sparsity=0.5", *CALIBRATED)
    record = run(config)
    assert read_record(folder_of(config) / "result.json") == record
    params, metrics = record["params"], record["metrics"]
    assert params["kept"] == kept_count(params["prunable"], 0.5)
    names = {n.removesuffix("_last") for n in metrics if n.endswith("_last")} - {"loss"}
    assert names == TASKS[task][1]
    assert {f"{name}_best" for name in names} < metrics.keys()
    assert record["metric"]["value"] == metrics[f"{record['metric']['name']}_last"]
    assert record["metric"]["epoch"] == "last"
    assert record["metric"]["split"] == ("test" if "cifar" in task else "dev")
    assert record["start"] == "init"
    assert ("zero_shot_accuracy_pruned" in metrics) == task.startswith("clip")
    assert_predictions_agree(config, record)


def assert_predictions_agree(config, record):
    """The record's metric follows from what is kept, which is in the data's own order."""
    metrics, kept = (
        record["metrics"],
        read_predictions(folder_of(config) / "predictions.safetensors"),
    )
    assert "predictions.safetensors" in record["integrity"]["files"]
    assert len(kept) == metrics["test_examples"]
    data = make_data(config, 8)
    data.setup()
    if kept.kind == "span":
        assert kept.right.mean() == pytest.approx(metrics["exact_match"], abs=1e-6)
        assert kept.f1.mean() == pytest.approx(metrics["f1"], abs=1e-5)
        contexts = data.splits["test"].rows["context"]
        starts, ends = kept.columns["start"], kept.columns["end"]
        assert all(
            0 <= start < end <= len(context)
            for start, end, context in zip(starts, ends, contexts, strict=True)
        )
        return
    columns = data.splits["test"].columns
    labels = columns["labels"][columns["part"] == 0] if "part" in columns else columns["labels"]
    assert torch.from_numpy(kept.columns["label"]).to(labels.dtype).equal(labels)
    if kept.kind == "score":
        correlation = np.corrcoef(kept.columns["label"], kept.columns["predicted"])[0, 1]
        assert correlation == pytest.approx(metrics["pearson"], abs=1e-5)
    else:
        assert kept.right.mean() == pytest.approx(metrics["accuracy"], abs=1e-6)


def plain_model(name, task):
    """The library's own class, without anything of ours."""
    import timm
    import transformers

    head = {"cifar10": (10, 4), "clip/cifar10": (10, 4)}.get(task)
    shape = {
        "vocab_size": 1000, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64,
    }  # fmt: skip
    if name == "tiny_vit":
        return timm.models.vision_transformer.VisionTransformer(
            img_size=32, patch_size=head[1], embed_dim=32, depth=2, num_heads=2, num_classes=head[0]
        )
    if name == "tiny_clip":
        tower = {k: v for k, v in shape.items() if k != "vocab_size"}
        ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "vocab_size": 1000}
        towers = {
            "text_config": {**tower, **ids},
            "vision_config": {**tower, "image_size": 32, "patch_size": 4},
        }
        return transformers.CLIPModel(transformers.CLIPConfig(**towers, projection_dim=32))
    if task == "squad":
        return transformers.BertForQuestionAnswering(transformers.BertConfig(**shape))
    config = transformers.BertConfig(**shape, num_labels=1 if task == "glue/stsb" else 2)
    return transformers.BertForSequenceClassification(config)


@pytest.mark.parametrize("task", ["cifar10", "glue/sst2", "glue/stsb", "squad", "clip/cifar10"])
def test_the_saved_model_is_the_plain_one(config_of, task):
    config = config_of(task, "start=init", "pruner=seven_dyn", "sparsity=0.75", "select=last")
    run(config)
    state = load_file(folder_of(config) / "model.safetensors")
    plain = plain_model(config.model.name, task)
    plain.load_state_dict(state, strict=True)
    masks = MaskSet(load_masks(folder_of(config) / "masks.safetensors"))
    assert all(not state[name][~mask].any() for name, mask in masks.items())
    built = build(config.model.build)
    built.load_state_dict(state)
    module = build(config.task.module, model=built, recipe=recipe_of(config))
    batch = batch_of(config)
    with torch.no_grad():
        ours = module.logits(built.eval(), batch)
        theirs = module.logits(plain.eval(), batch)
    assert torch.equal(ours, theirs)


def methods():
    for path in sorted((conf_dir() / "pruner").glob("*.yaml")):
        told = OmegaConf.load(path)
        # what is thresholded removes nothing in so few steps
        if told.timing in ("before", "during") and told.get("cut") != "above_zero":
            yield path.stem


SUBJECTS = {"tiny_bert": "glue/sst2", "tiny_clip": "clip/cifar10"}


@pytest.fixture(scope="module")
def subjects(data_root, tmp_path_factory):
    """Data, and a model to copy, of a text task and of CLIP."""
    found = {}
    for model, task in SUBJECTS.items():
        config = shortened("dense", task, model, data_root, tmp_path_factory.mktemp("runs"))
        data = make_data(config, 8)
        data.setup()
        torch.manual_seed(0)
        found[model] = data, starting_model(config, None)
    return found


def shortened(pruner, task, model, data_root, output_root):
    given = [
        *SHORT, f"task={task}", f"model={model}", "start=init", f"data_root={data_root}",
        f"pruner={pruner}", f"output_root={output_root}", "sparsity=0.5", *given_masks(pruner),
    ]  # fmt: skip
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", given)
        if (composed.pruner.get("schedule") or {}).get("every", 1) > 1:
            given.append("pruner.schedule.every=1")
            composed = compose("config", given)
        calibration = composed.pruner.get("calibration")
        if not calibration:
            return checked(composed)
        batches = calibration.examples // calibration.batch_size
        for examples in (4, batches):  # few if the schedule allows
            less = [f"pruner.calibration.examples={examples}", "pruner.calibration.batch_size=1"]
            try:
                return checked(compose("config", [*given, *less]))
            except ConfigError:
                continue
    raise AssertionError(f"{pruner} cannot be shortened")


def context_of(config, checkpoint=None):
    metric = config.task.metric
    return Context(metric.name, metric.higher_is_better, Device("cpu"), checkpoint=checkpoint)


@pytest.mark.parametrize("model", SUBJECTS)
@pytest.mark.parametrize("pruner", [*methods()])
def test_every_method_before_or_during_training(subjects, data_root, tmp_path, pruner, model):
    config = shortened(pruner, SUBJECTS[model], model, data_root, tmp_path)
    data, start = subjects[model]
    module = build(config.task.module, model=copy.deepcopy(start), recipe=recipe_of(config))
    params = prunable_parameters(module.model)
    if takes_masks(config.pruner):
        config = config.changed(pruner__masks=str(write_masks_at(0.5, params, f"conf-{model}")))
    reset_process(0, 1, True)
    trained, _ = train_pruned(Job(config, module, params, data, context_of(config)))
    total = sum(p.numel() for p in params.values())
    if config.pruner.cut == "exact":
        assert trained.last_masks.kept == kept_count(total, 0.5)
    for name, mask in trained.last_masks.items():
        assert not trained.last[name][~mask].any()


def test_a_ticket_moves_from_one_text_task_to_another(config_of):
    """From two classes to a score: the same encoder, and a head of which nothing is removed."""
    ticket = config_of("glue/sst2", "start=init", "pruner=lth", "sparsity=0.2", model="tiny_bert")
    found = run(ticket)
    given = (f"pruner.masks={folder_of(ticket)}", "pruner=given_mask", "start=init")
    moved = config_of("glue/stsb", *given, model="tiny_bert")
    record = run(moved)
    assert record["mask_hash"] == found["mask_hash"] and moved.sparsity == 0.2
    one, other = (load_masks(folder_of(c) / "masks.safetensors") for c in (ticket, moved))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    state = load_file(folder_of(moved) / "model.safetensors")
    assert not any(bool(state[name][~mask].any()) for name, mask in other.items())
    assert record["masks"]["from"] == "lth of glue/sst2" and record["task"] == "glue/stsb"


def test_two_methods_share_one_dense_start(config_of):
    overrides = ("start=dense", "start.train.max_epochs=1", "start.train.batch_size=8")
    configs = [
        config_of("glue/sst2", *overrides, f"pruner={p}", "sparsity=0.5", *c)
        for p, c in (("snip", CALIBRATED), ("seven_dyn", ()))
    ]
    records = [run(config) for config in configs]
    runs = sorted(Path(configs[0].output_root).rglob("result.json"))
    assert len(runs) == 3
    dense = read_record(folder_of(dense_start(configs[0])) / "result.json")
    assert dense["sparsity"]["prunable"] == 0
    costs = {record["cost"]["example_equivalents"]["start"] for record in records}
    assert costs == {dense["cost"]["example_equivalents"]["total"]}
    assert {record["start"] for record in records} == {"dense"}


@pytest.fixture
def weights(config_of):
    """A folder of weights: those of a run."""
    config = config_of("glue/sst2", "start=init", "pruner=dense")
    run(config)
    return folder_of(config)


def test_a_run_from_a_folder_of_weights(config_of, weights):
    given = ("start=pretrained", "pruner=magnitude", "sparsity=0.5", "trainer.lr=1e-9")
    config = config_of("glue/sst2", *given, f"start.weights={weights}")
    record = run(config)
    assert record["start"] == "pretrained"
    state, start = (
        load_file(folder / "model.safetensors") for folder in (folder_of(config), weights)
    )
    masks = MaskSet(load_masks(folder_of(config) / "masks.safetensors"))
    for name, mask in masks.items():
        torch.testing.assert_close(state[name][mask], start[name][mask], atol=1e-6, rtol=0)


def test_a_start_is_known_by_its_weights_not_their_place(config_of, weights, tmp_path):
    import shutil

    moved = tmp_path / "elsewhere"
    shutil.copytree(weights, moved)
    ids = [
        identify(config_of("glue/sst2", f"start={kind}", *extra, f"start.weights={folder}"))
        for kind, extra in (("pretrained", ()), ("dense", ("start.from=pretrained",)))
        for folder in (weights, moved)
    ]
    assert ids[0] == ids[1] and ids[2] == ids[3] and ids[0] != ids[2]
    state = load_file(moved / "model.safetensors")
    from safetensors.torch import save_file

    save_file({name: value + 1 for name, value in state.items()}, moved / "model.safetensors")
    assert identify(config_of("glue/sst2", "start=pretrained", f"start.weights={moved}")) != ids[0]


def test_a_model_without_weights_of_its_own_says_so(config_of):
    with pytest.raises(ConfigError, match=r"tiny_bert has no pretrained weights.*start\.weights="):
        config_of("glue/sst2", "start=pretrained")


@pytest.mark.parametrize("finetune", ["linear_probe", "bitfit", "lora", "llrd"])
@pytest.mark.parametrize("pruner", ["snip", "seven_dyn", "seven_dyn_released", "gmp"])
def test_strategies_with_methods(config_of, finetune, pruner):
    overrides = ("start=init", f"pruner={pruner}", f"finetune={finetune}", "sparsity=0.5")
    given = {"snip": CALIBRATED, "gmp": ["pruner.schedule.every=1"]}.get(pruner, ())
    if finetune == "lora" and pruner != "snip":
        with pytest.raises(ConfigError, match="prunes during training"):
            config_of("glue/sst2", *overrides, *given)
        return
    config = config_of("glue/sst2", *overrides, *given)
    record = run(config)
    if config.pruner.cut == "exact":
        assert record["params"]["kept"] == kept_count(record["params"]["prunable"], 0.5)
    assert record["finetune"] == finetune
    state = load_file(folder_of(config) / "model.safetensors")
    plain = plain_model("tiny_bert", "glue/sst2")
    plain.load_state_dict(state, strict=True)
    masks = MaskSet(load_masks(folder_of(config) / "masks.safetensors"))
    reset_process(config.seed, 1, True)
    begin = starting_model(config, None).state_dict()
    assert all(not state[name][~mask].any() for name, mask in masks.items())
    kept = [torch.equal(state[name][mask], begin[name][mask]) for name, mask in masks.items()]
    assert all(kept) == (finetune in ("linear_probe", "bitfit"))
    embeddings = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(state[embeddings], begin[embeddings]) == (finetune != "llrd")
    assert not torch.equal(state["classifier.weight"], begin["classifier.weight"])


def test_lora_is_refused_in_rounds(config_of):
    with pytest.raises(ConfigError, match="finetune=lora: pruner=lth prunes"):
        config_of("glue/sst2", "start=init", "finetune=lora", "pruner=lth", "sparsity=0.5")


def test_lora_goes_on_where_it_stopped(config_of, tmp_path):
    config = config_of(
        "glue/sst2", "start=init", "pruner=snip", "finetune=lora", "sparsity=0.5", *CALIBRATED,
        "trainer.max_epochs=2",
    )  # fmt: skip

    class Killed(Exception):
        pass

    def train(checkpoint=None, kill=False):
        reset_process(0, 1, True)
        data = make_data(config, 8)
        data.setup()
        model = starting_model(config, None)
        module = build(config.task.module, model=model, recipe=recipe_of(config))
        if kill:

            def stop(batch, batch_idx):
                if module.trainer.current_epoch == 1 and batch_idx == 4:
                    raise Killed

            module.on_train_batch_start = stop
        params = prunable_parameters(model)
        return train_pruned(Job(config, module, params, data, context_of(config, checkpoint)))[0]

    whole = train()
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        train(Checkpoint(path, 0.0), kill=True)
    resumed = train(Checkpoint(path, 1e9))
    assert resumed.last_masks.hash() == whole.last_masks.hash()
    assert all(torch.equal(value, resumed.last[name]) for name, value in whole.last.items())


@pytest.mark.parametrize(
    ("task", "start"),
    [("glue/sst2", "init"), ("glue/stsb", "init"), ("squad", "dense"), ("clip/cifar10", "init")],
)
def test_a_dense_model_teaches(config_of, task, start):
    given = (f"start={start}", "start.train.max_epochs=1", "pruner=seven_dyn", "sparsity=0.5")
    plain, taught = (config_of(task, *given, f"finetune.distill={on}") for on in ("false", "true"))
    record = run(taught)
    assert run(plain)["run_id"] != record["run_id"]
    costs = record["cost"]["example_equivalents"]
    assert costs["start"] == run(dense_start(taught))["cost"]["example_equivalents"]["total"]
    trained = run(plain)["cost"]["example_equivalents"]["training"]
    assert costs["training"] == trained * 4 / 3  # the teacher looks at every example as well
    states = [load_file(folder_of(c) / "model.safetensors") for c in (plain, taught)]
    assert states[0].keys() == states[1].keys()
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_subset_is_part_of_what_a_run_is(config_of):
    ids = {
        identify(config_of("glue/sst2", f"task.train_examples={n}")).run_id
        for n in ("null", 10, 20)
    }
    assert len(ids) == 3
    few = config_of("glue/sst2", "start=init", "pruner=dense", "task.train_examples=10")
    assert run(few)["cost"]["example_equivalents"]["training"] == 30


def test_text_is_learned(config_of):
    """The word that tells is found: 20 of 24 by luck are one in 1,300."""
    config = config_of("glue/sst2", "start=init", "pruner=dense", "trainer.max_epochs=15",
                       "trainer.lr=3e-3", "trainer.warmup=0.1")  # fmt: skip
    assert run(config)["metric"]["value"] > 0.8


REAL = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not there")
@pytest.mark.parametrize(
    ("task", "dev"),
    [("glue/cola", 1043), ("glue/rte", 277), ("glue/stsb", 1500), ("clip/cifar100", 1000)],
)
def test_real_data_has_the_schema_that_is_read(make_config, task, dev):
    model = "tiny_clip" if task.startswith("clip") else "tiny_bert"
    config = make_config(f"task={task}", f"model={model}", "start=init", f"data_root={REAL}")
    data = make_data(config, 32)
    data.setup()
    assert data.scored_examples() == dev
