"""`export --to hf`: folders that transformers and timm open without this package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from seven_bench.export import runs as exports
from seven_bench.export.hf import Result, save_hf
from seven_bench.running.run import run
from seven_bench.store.finished import open_run
from tests.data.synthetic import write_for
from tests.data.test_own import write_images

FAMILIES = {  # task: model, class that opens it
    "glue/rte": ("tiny_bert", "AutoModelForSequenceClassification"),
    "squad": ("tiny_bert", "AutoModelForQuestionAnswering"),
    "clip/cifar10": ("tiny_clip", "CLIPModel"),
    "cifar10": ("tiny_vit", ""),
}
OPEN = """
import sys
sys.modules["seven_bench"] = None  # importing it would fail
import timm, torch, transformers
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
for given in sys.argv[1:]:
    folder, kind = given.split(":")
    inputs = load_file(folder + ".inputs")
    if kind:
        model = getattr(transformers, kind).from_pretrained(folder).eval()
    else:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        found = model(**inputs) if kind else model(inputs["pixel_values"])
    if kind == "CLIPModel":
        found = found.logits_per_image
    elif kind == "AutoModelForQuestionAnswering":
        found = torch.stack([found.start_logits, found.end_logits], 1)
    elif kind:
        found = found.logits
    save_file({"logits": found.contiguous()}, folder + ".logits")
"""


def finish(make_config, tmp_path, task: str, model: str, *more: str) -> Path:
    config = make_config(
        f"task={task}", f"model={model}", "start=init", "pruner=magnitude", "sparsity=0.8",
        f"data_root={tmp_path}/data", "trainer.max_epochs=0", "logger=none",
        "trainer.accelerator=cpu", "trainer.threads=1", *more,
    )  # fmt: skip
    return tmp_path / "runs" / run(config)["run_id"]


def test_another_program_has_the_same_logits(make_config, tmp_path):
    """One that has no seven_bench; to the last bit here, and 1e-6 elsewhere."""
    wanted, folders = {}, {}
    for task, (model, _) in FAMILIES.items():
        write_for(task, tmp_path / "data")
        folder = folders[task] = finish(make_config, tmp_path, task, model)
        done = exports.export_run(open_run(folder), "hf", [4])
        assert done.difference == 0 and done.path == folder / "hf"
        assert not [*folder.glob(".hf*")]
        loaded = exports.Loaded(open_run(folder))
        batch = loaded.data.example_batch(4)
        keys = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
        inputs = {**batch, **batch.get("prompts", {})}
        inputs = {name: inputs[name].contiguous() for name in keys if name in inputs}
        save_file(inputs, folder / "hf.inputs")
        wanted[task] = loaded.logits(batch)
        saved = load_file(folder / "hf" / "model.safetensors")
        for name, mask in loaded.masks.items():
            assert int(saved[name][~mask].count_nonzero()) == 0
        if task != "cifar10":
            words = AutoTokenizer.from_pretrained(folder / "hf")("a fine film")
            assert words["input_ids"] == loaded.data.tokenizer("a fine film")["input_ids"]
    given = [f"{folder}/hf:{FAMILIES[task][1]}" for task, folder in folders.items()]
    command = [sys.executable, "-I", "-c", OPEN, *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    for task, logits in wanted.items():
        found = load_file(folders[task] / "hf.logits")["logits"]
        assert found.shape == logits.shape, task
        assert float((found - logits).abs().max()) <= 1e-6 * max(1, float(logits.abs().max())), task


def test_labels_and_the_card(make_config, tmp_path):
    write_for("glue/rte", tmp_path / "data")
    folder = finish(make_config, tmp_path, "glue/rte", "tiny_bert")
    exports.export_run(open_run(folder), "hf", [2])
    config = json.loads((folder / "hf" / "config.json").read_text())
    assert config["id2label"] == {"0": "c0", "1": "c1"} and config["label2id"]["c1"] == 1
    card = (folder / "hf" / "README.md").read_text()
    assert "one seed, so nothing is known of the spread" in card
    other = finish(make_config, tmp_path, "glue/rte", "tiny_bert", "seed=1")
    exports.export_run(open_run(folder), "hf", [2])
    card = (folder / "hf" / "README.md").read_text()
    values = [open_run(one).record["metric"]["value"] for one in (folder, other)]
    mean, deviation = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
    assert f"over seeds 0, 1: {mean:.4f} ± {deviation:.4f}" in card
    _, head, body = card.split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["pipeline_tag"] == "text-classification" and head["library_name"] == "transformers"
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(values[0], abs=1e-6)
    record = open_run(folder).record
    for name in ("prunable", "encoder", "non_embedding", "model"):
        assert f"| {100 * record['sparsity'][name]:.2f} % |" in body
    assert "`magnitude`" in body and "AutoModelForSequenceClassification.from_pretrained" in body
    assert "hf upload YOUR-NAME/tiny_bert-glue-rte-magnitude-s0.8 ." in body


def test_the_card_of_a_debug_run_is_no_result(make_config, tmp_path):
    config = make_config(
        "start=init", "pruner=magnitude", "debug=true", "logger=none", "trainer.accelerator=cpu"
    )
    folder = tmp_path / "runs" / run(config)["run_id"]
    exports.export_run(open_run(folder), "hf", [2])
    _, head, body = (folder / "hf" / "README.md").read_text().split("---\n", 2)
    assert "model-index" not in yaml.safe_load(head)
    assert "`debug=true`" in body and "Its figures mean nothing" in body


def test_the_digits_vit_opens_in_timm(make_config, tmp_path):
    """Of timm's class, not of a name that timm has: its arguments go along."""
    config = make_config(
        "start=init", "pruner=snip", "trainer.max_epochs=0", "logger=none", "trainer.threads=1",
        "pruner.calibration.examples=32", "trainer.accelerator=cpu",
    )  # fmt: skip
    folder = tmp_path / "runs" / run(config)["run_id"]
    assert exports.export_run(open_run(folder), "hf", [2]).difference == 0
    config = json.loads((folder / "hf" / "config.json").read_text())
    assert config["model_args"]["embed_dim"] == 64 and config["num_classes"] == 10
    assert config["pretrained_cfg"]["input_size"] == [1, 8, 8]
    assert "timm.create_model" in (folder / "hf" / "README.md").read_text()


def test_the_folder_says_what_a_model_sees_of_an_image(make_config, tmp_path):
    """timm's own transform of a file is the batch that the run was scored on."""
    write_images(tmp_path / "images", 40, first=2)  # of 20 to 22 x 24 pixels
    config = make_config(
        "task=images", "model=tiny_vit", f"data_root={tmp_path / 'images'}", "start=init",
        "pruner=magnitude", "trainer.max_epochs=0", "logger=none", "trainer.accelerator=cpu",
        "trainer.threads=1",
    )  # fmt: skip
    folder = tmp_path / "runs" / run(config)["run_id"]
    exports.export_run(open_run(folder), "hf", [2])
    model = timm.create_model(f"local-dir:{folder / 'hf'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    scored = exports.Loaded(open_run(folder)).data.splits["test"]
    seen = scored[range(len(scored))]["pixel_values"]
    files = [transform(Image.open(file)) for file in (tmp_path / "images").rglob("*.png")]
    for picture in seen:
        assert min(float((picture - file).abs().max()) for file in files) < 1e-5


def test_an_images_processor_does_what_the_data_do(make_config, tmp_path, monkeypatch):
    write_for("clip/cifar10", tmp_path / "data")
    folder = finish(make_config, tmp_path, "clip/cifar10", "tiny_clip")
    exports.export_run(open_run(folder), "hf", [2])
    told = json.loads((folder / "hf" / "preprocessor_config.json").read_text())
    loaded = exports.Loaded(open_run(folder))
    assert loaded.data.around == 1.0  # all of an image of CIFAR
    assert told["size"]["shortest_edge"] == told["crop_size"]["height"]
    out = tmp_path / "imagenet"
    out.mkdir()
    monkeypatch.setitem(loaded.data.options, "lazy", True)
    result = Result(loaded.record, {})
    save_hf(loaded.module.model, loaded.settings, loaded.data, result, out)
    told = json.loads((out / "preprocessor_config.json").read_text())
    size = told["crop_size"]["height"]
    assert told["size"]["shortest_edge"] == round(size * 8 / 7) > size
