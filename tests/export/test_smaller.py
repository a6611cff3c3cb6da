"""Models without their removed units: the same function, in fewer weights."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from seven_bench.export import runs as exports
from seven_bench.export.smaller import (
    load_smaller,
    make_smaller,
    run_program,
    save_ordinary,
    save_program,
    save_smaller,
    units_left,
)
from seven_bench.pruning import MaskSet, prune
from seven_bench.pruning.structure import CoupledBiases, structure_of, structured_parameters
from seven_bench.running.run import run
from seven_bench.store.finished import open_run
from seven_bench.store.record import read_record
from seven_bench.testing import tiny
from tests.conftest import SHORT
from tests.data.synthetic import write_for


def masked(name, pattern, sparsity, distribution="uniform", biases=True):
    """A module with random units removed, its structure and masks."""
    module = tiny.TinyModule(tiny.start(name), None).eval()
    structure = structure_of(module.model, pattern)
    params = structured_parameters(module.model, structure)
    generator = torch.Generator().manual_seed(1)
    scores = {n: torch.rand(p.shape, generator=generator) for n, p in params.items()}
    masks = prune(scores, MaskSet.ones(params), sparsity, distribution, structure)
    for parameter in module.model.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(0.1, 0.9, generator=generator)
    masks.apply_({n: p.data for n, p in params.items()})
    if biases:
        CoupledBiases(module.model, structure).apply_(masks)
    return module, structure, masks


def cut(module, structure, masks):
    small, batch = copy.deepcopy(module), tiny.tiny_data(0).example_batch(2)
    return small, make_smaller(small, structure, units_left(structure, masks), batch)


def logits(module, size=5):
    with torch.no_grad():
        return module.logits(module.model, tiny.tiny_data(0).example_batch(size))


@pytest.mark.parametrize("name", tiny.MODELS)
@pytest.mark.parametrize(
    ("pattern", "sparsity", "distribution"),
    [("head_neuron", 0.5, "uniform"), ("neuron", 0.7, "global"), ("head", 0.5, "uniform")],
)
def test_removed_is_masked(name, pattern, sparsity, distribution, tmp_path):
    module, structure, masks = masked(name, pattern, sparsity, distribution)
    small, counts = cut(module, structure, masks)
    assert (logits(small) - logits(module)).abs().max() <= 1e-5
    kept = sum(p.numel() for p in module.model.parameters()) - sum(
        p.numel() for p in small.model.parameters()
    )
    biases = sum(int((~rows).sum()) for rows in structure.living_rows(masks).values())
    assert kept == masks.total - masks.kept + biases
    path = save_smaller(small.model, counts, {}, tmp_path / "small.safetensors")
    opened = copy.deepcopy(module)
    load_smaller(path, opened.model)
    assert torch.equal(logits(opened), logits(small))


@pytest.mark.parametrize("name", tiny.MODELS)
def test_biases_of_removed_units_make_no_difference(name):
    module, structure, masks = masked(name, "head_neuron", 0.5, biases=False)
    small, _ = cut(module, structure, masks)
    assert (logits(small) - logits(module)).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_of_a_layer_that_has_lost_all_one_unit_stays(name):
    module, structure, masks = masked(name, "head_neuron", 0.97, "global")
    alive = structure.living_units(masks)
    assert sum(not bool(units.any()) for units in alive.values()) >= 2
    small, counts = cut(module, structure, masks)
    assert min(counts.values()) == 1
    assert (logits(small) - logits(module)).abs().max() <= 1e-5


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_program_takes_any_batch(name, tmp_path):
    module, structure, masks = masked(name, "head_neuron", 0.5)
    small, _ = cut(module, structure, masks)
    assert save_program(small, tiny.tiny_data(0).example_batch(4), tmp_path / "small.pt2")
    for size in (1, 3):
        with torch.no_grad():
            found = run_program(tmp_path / "small.pt2", tiny.tiny_data(0).example_batch(size))()
        assert (found - logits(module, size)).abs().max() <= 1e-5


def test_an_ordinary_folder_where_a_config_can_say_it(tmp_path):
    module, structure, masks = masked("bert", "neuron", 0.5)
    small, counts = cut(module, structure, masks)
    assert save_ordinary(small.model, counts, tmp_path / "folder") == ""
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")
    assert opened.config.intermediate_size == 16
    batch = tiny.tiny_data(0).example_batch(5)
    with torch.no_grad():
        found = opened.eval()(input_ids=batch["input_ids"]).logits
    assert (found - logits(module)).abs().max() <= 1e-5
    clip, structure, masks = masked("clip", "neuron", 0.25)
    small, counts = cut(clip, structure, masks)
    assert save_ordinary(small.model, counts, tmp_path / "clip") == ""
    sizes = json.loads((tmp_path / "clip/config.json").read_text())
    widths = [sizes[f"{tower}_config"]["intermediate_size"] for tower in ("text", "vision")]
    assert widths == [24, 24]


def test_why_there_is_no_ordinary_folder(tmp_path):
    for name, pattern, distribution, reason in (
        ("bert", "head", "uniform", "BertConfig has no head_dim, so it cannot say 1 heads"),
        ("bert", "neuron", "global", "a config has one number"),
        ("vit", "neuron", "uniform", "VisionTransformer has no config"),
    ):
        module, structure, masks = masked(name, pattern, 0.54, distribution)
        small, counts = cut(module, structure, masks)
        assert reason in save_ordinary(small.model, counts, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_table_that_is_wrong_is_found_out():
    batch = tiny.tiny_data(0).example_batch(2)
    module, structure, masks = masked("bert", "neuron", 0.5)
    left = units_left(structure, masks)
    first = structure.groups[0]
    half = replace(first, members=first.members[:1])  # as if nothing read what these rows make
    with pytest.raises(ValueError, match=r"output\.dense depends on .*0\.neuron in another way"):
        make_smaller(module, replace(structure, groups=(half,)), left, batch)


def test_files_that_are_not_of_this_model_are_refused(tmp_path):
    module, structure, masks = masked("bert", "neuron", 0.5)
    small, counts = cut(module, structure, masks)
    path = save_smaller(small.model, counts, {}, tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match=r"the model has no bert\.encoder"):
        load_smaller(path, tiny.build("vit"))
    tensors = load_file(path)
    for units, text in (
        ({next(iter(counts)): 33}, "has 32 neurons, not 33"),
        ({next(iter(counts)): 0}, "cannot keep 0"),
        ({}, "loading state_dict"),
    ):
        metadata = {"format": "seven_bench.smaller/1", "units": json.dumps(units), "model": "{}"}
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match=text):
            load_smaller(path, tiny.build("bert"))
    metadata["model"] = json.dumps({"_target_": "os.system", "command": "true"})
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=r"os\.system"):
        load_smaller(path)


def test_it_says_what_is_not_installed(monkeypatch):
    module, structure, masks = masked("bert", "neuron", 0.5)
    monkeypatch.setattr("seven_bench.export.smaller.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install ('torch-pruning|-e \.\[smaller)"):
        cut(module, structure, masks)


FAMILIES = [("glue/rte", "tiny_bert"), ("cifar10", "tiny_vit"), ("clip/cifar10", "tiny_clip")]


@pytest.mark.parametrize(("task", "model"), FAMILIES)
def test_every_family_exports(task, model, make_config, tmp_path):
    write_for(task, tmp_path / "data")
    config = make_config(
        f"task={task}", f"model={model}", "start=init", "pruner=magnitude", "sparsity=0.5",
        "pattern=head_neuron", f"data_root={tmp_path}/data", *SHORT,
    )  # fmt: skip
    record = run(config)
    folder = tmp_path / "runs" / record["run_id"]
    done = exports.export_run(open_run(folder), "smaller", [1, 2])
    assert done.difference <= 1e-5 and done.bytes < record["efficiency"]["bytes"]["dense"]
    assert done.macs is not None and done.macs <= record["efficiency"]["macs"]["dense"]
    rebuilt = load_smaller(folder / "model.smaller.safetensors")
    loaded = exports.Loaded(open_run(folder))
    batch = loaded.data.example_batch(3)
    with torch.no_grad():
        found = loaded.module.logits(rebuilt, batch)
    assert (found - loaded.logits(batch)).abs().max() <= 1e-5
    assert read_record(folder / "result.json")["efficiency"]["macs"]["smaller"] == done.macs
    with safe_open(folder / "model.smaller.safetensors", "pt") as file:
        assert set(file.metadata()) == {"format", "units", "model"}


def test_a_run_without_units_and_its_latency(make_config, tmp_path, capsys):
    config = make_config("start=init", "pruner=magnitude", "sparsity=0.5", *SHORT)
    folder = tmp_path / "runs" / run(config)["run_id"]
    with pytest.raises(ValueError, match="pattern=unstructured removes no whole units; these do"):
        exports.export_run(open_run(folder), "smaller", [1])
    exports.export_run(open_run(folder), "csr", [4])
    done = exports.export_run(open_run(folder), "latency", [1, 2])
    assert done.path is None and done.difference <= 1e-4
    latency = read_record(folder / "result.json")["efficiency"]["latency"]
    for form in ("dense_batch1", "csr_batch2"):
        assert latency[f"{form}_low"] <= latency[form] <= latency[f"{form}_high"]
    assert "csr_batch4" not in latency, "timed at another time"
    assert latency["csr_layers"] == done.counts["csr"] and "dense" in latency["dense_layers"]
    exports.print_latencies([done])
    told = capsys.readouterr().out
    assert "dense / it" in told and "1.00x" in told and done.counts["dense"] in told
