"""`seven-bench export` over finished runs of every family."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seven_bench.export import runs as exports
from seven_bench.pruning import MaskSet
from seven_bench.running.run import run
from seven_bench.store.finished import open_run
from seven_bench.store.integrity import fingerprints
from seven_bench.store.packed import load_packed
from seven_bench.store.record import read_record, write_record
from tests.conftest import SHORT, program
from tests.data.synthetic import write_for

TARGETS = ("packed", "csr", "onnx")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run's folder."""
    root = tmp_path_factory.mktemp("finished")
    done = program("pruner=magnitude", "start=init", "sparsity=0.9", f"output_root={root}", *SHORT)
    assert done.returncode == 0, done.stderr
    (path,) = root.rglob("result.json")
    return path.parent


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_record_says_what_the_zeros_are_worth(finished):
    found = read_record(finished / "result.json")["efficiency"]
    assert found["bytes"]["dense"] == (finished / "model.safetensors").stat().st_size
    assert found["bytes"]["packed"] < 0.2 * found["bytes"]["dense"]
    assert found["macs"]["masked"] < 0.3 * found["macs"]["dense"]
    assert found["input"] == "pixel_values 1x1x8x8"


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_written_checked_and_recorded(target, folder):
    if target == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    before = read_record(folder / "result.json")
    done = exports.export_run(open_run(folder), target, [1, 4])
    assert done.difference <= exports.TOLERANCE[target]
    assert done.path is not None and done.path.stat().st_size == done.bytes
    after = read_record(folder / "result.json")
    assert after["efficiency"]["bytes"][target] == done.bytes
    if target != "packed":
        latency = after["efficiency"]["latency"]
        assert latency[f"{target}_batch4"] > 0 and latency["dense_batch1"] > 0
    for record in (after, before):
        del record["efficiency"], record["integrity"]["record"]
    assert after == before  # nothing else of the record is touched


def test_the_packed_file_is_the_runs_model(folder):
    done = exports.export_run(open_run(folder), "packed", [2])
    state, masks = load_packed(done.path)
    wanted = load_file(folder / "model.safetensors")
    assert all(torch.equal(state[name], value) for name, value in wanted.items())
    assert MaskSet(masks).hash() == read_record(folder / "result.json")["mask_hash"]


def test_logits_that_differ_leave_no_file(folder, monkeypatch):
    def spoilt(*args):
        state, masks = load_packed(*args)
        return {name: value + 1 for name, value in state.items()}, masks

    monkeypatch.setattr(exports, "load_packed", spoilt)
    with pytest.raises(ValueError, match="logits differ by"):
        exports.export_run(open_run(folder), "packed", [2])
    assert not (folder / exports.NAMES["packed"]).exists()


def test_a_run_whose_removed_weights_came_back_is_not_exported(folder):
    state = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in state.items()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit its checksum"):
        exports.export_run(open_run(folder), "packed", [2])
    record = read_record(folder / "result.json")
    files = fingerprints(folder)
    write_record(folder / "result.json", {**record, "integrity": {"files": files}})
    with pytest.raises(ValueError, match="removed weights that are not 0"):
        exports.export_run(open_run(folder), "packed", [2])


def test_one_line_an_error_and_exit_code_one(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([str(tmp_path / "none")], "no such file or folder"),
        ([str(tmp_path / "empty")], "no finished run was found"),
        ([str(folder), "--to", "nm"], "is not 2:4 sparse"),
    ):
        given = arguments if "--to" in arguments else [*arguments, "--to", "packed"]
        done = program("export", *given)
        assert done.returncode == 1 and words in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = program("export", str(folder), "--to", "packed", "--batch", "0")
    assert done.returncode == 1 and "--batch 0" in done.stderr
    done = program("export", str(folder), "--to", "packed")
    assert done.returncode == 0 and "exported to packed" in done.stdout


FAMILIES = [("glue/rte", "tiny_bert"), ("cifar10", "tiny_vit"), ("clip/cifar10", "tiny_clip")]


@pytest.mark.parametrize(("task", "model"), FAMILIES)
def test_every_family_exports(task, model, make_config, tmp_path):
    write_for(task, tmp_path / "data")
    config = make_config(
        f"task={task}", f"model={model}", "start=init", "pruner=magnitude", "sparsity=0.8",
        f"data_root={tmp_path}/data", *SHORT,
    )  # fmt: skip
    record = run(config)
    folder = tmp_path / "runs" / record["run_id"]
    targets = ["packed", "csr"]
    if model != "tiny_clip":  # its prompts make the graph's sizes fixed
        targets.append("onnx")
    for target in targets:
        done = exports.export_run(open_run(folder), target, [1, 2])
        assert done.difference <= 1e-4, target
    efficiency = json.loads((folder / "result.json").read_text())["efficiency"]
    assert efficiency["macs"]["masked"] < efficiency["macs"]["dense"]
