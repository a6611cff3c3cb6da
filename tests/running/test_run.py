"""Whole runs on real digits, shortened: exact counts, zeros in files, repeats, isolation."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from seven_bench.pruning import MaskSet
from seven_bench.running.run import run
from seven_bench.settings.building import build
from seven_bench.settings.checks import stored
from seven_bench.settings.identity import dense_start, identify
from seven_bench.store.home import with_home, without_home
from seven_bench.store.masks import load_masks
from seven_bench.store.record import read_record
from seven_bench.store.run_folder import RunFolder
from tests.conftest import SHORT, program
from tests.data.synthetic import write_glue

METHODS = ("random", "snip", "seven_pre", "seven_dyn")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Sixteen runs of one command."""
    root = tmp_path_factory.mktemp("sweep")
    methods = f"pruner={','.join(METHODS)}"
    done = program("-m", methods, "sparsity=0.5,0.9", "seed=0,1", f"output_root={root}", *SHORT)
    assert done.returncode == 0, done.stderr
    assert "16 runs: 0 done, 16 to do" in done.stdout
    for method in METHODS:
        assert f" {method} " in done.stdout.rsplit("digits", 1)[1]  # a row of the table
    return root


def folders(root: Path) -> list[Path]:
    return sorted(p.parent for p in root.rglob("result.json") if "/dense/" not in str(p))


def test_every_run_left_a_record_of_the_exact_count(sweep):
    assert len(folders(sweep)) == 16
    for folder in folders(sweep):
        record = read_record(folder / "result.json")
        n = record["params"]["prunable"]
        kept = n - round(record["sparsity"]["target"] * n)
        masks = MaskSet(load_masks(folder / "masks.safetensors"))
        assert record["params"]["kept"] == kept == masks.kept
        assert sum(layer["kept"] for layer in record["layers"].values()) == kept
        assert masks.hash() == record["mask_hash"]
        assert record["sparsity"]["prunable"] == pytest.approx(1 - kept / n)
        assert record["sparsity"]["model"] < record["sparsity"]["prunable"]


def test_removed_weights_are_zero_in_the_file_which_loads_into_the_plain_model(sweep):
    for folder in folders(sweep):
        masks = MaskSet(load_masks(folder / "masks.safetensors"))
        state = load_file(folder / "model.safetensors")
        for name, mask in masks.items():
            assert int(state[name][~mask].count_nonzero()) == 0
            assert int(state[name].count_nonzero()) <= int(mask.count_nonzero())
        plain = build(stored(folder).model.build)
        plain.load_state_dict(state, strict=True)


def test_the_dense_start_was_trained_once_a_seed_and_its_cost_is_billed(sweep):
    dense = sorted((sweep / "runs/digits/vit_digits/dense").rglob("result.json"))
    assert [read_record(p)["seed"] for p in dense] == [0, 1]
    start = read_record(dense[0])["cost"]["example_equivalents"]["total"]
    for folder in folders(sweep):
        cost = read_record(folder / "result.json")["cost"]["example_equivalents"]
        assert cost["start"] == start == 3 * 2 * 1259
        assert cost["total"] == cost["start"] + cost["training"] + cost["scoring"]
    billed = {
        method: read_record(
            next(f for f in folders(sweep) if f"/{method}/" in str(f)) / "result.json"
        )
        for method in METHODS
    }
    scoring = {m: r["cost"]["example_equivalents"]["scoring"] for m, r in billed.items()}
    assert scoring == {"random": 0, "snip": 3 * 3840, "seven_pre": 3 * 3840, "seven_dyn": 0}


def test_a_second_sweep_trains_nothing(sweep):
    before = {p: p.stat().st_mtime_ns for p in sweep.rglob("*.safetensors")}
    methods = f"pruner={','.join(METHODS)}"
    done = program("-m", methods, "sparsity=0.5,0.9", "seed=0,1", f"output_root={sweep}", *SHORT)
    assert "16 runs: 16 done, 0 to do" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in sweep.rglob("*.safetensors")} == before


def test_a_run_alone_equals_the_same_run_in_a_sweep(sweep, make_config):
    config = make_config("pruner=seven_dyn", "sparsity=0.9", "seed=1", *SHORT)
    alone = run(config)
    in_sweep = read_record(identify(config).folder(sweep) / "result.json")
    assert alone["mask_hash"] == in_sweep["mask_hash"]
    assert alone["metrics"] == in_sweep["metrics"]


def test_a_run_that_follows_others_in_one_process_equals_one_that_does_not(sweep, make_config):
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(False)
    config = make_config("pruner=snip", "sparsity=0.9", "seed=0", *SHORT)
    record = run(config)
    in_sweep = read_record(identify(config).folder(sweep) / "result.json")
    assert record["mask_hash"] == in_sweep["mask_hash"]
    assert record["metrics"] == in_sweep["metrics"]


def test_sparsity_zero_is_the_dense_run(make_config):
    dense = run(make_config("pruner=dense", *SHORT))
    assert dense["sparsity"] == {
        "target": 0.0, "prunable": 0.0, "encoder": 0.0, "non_embedding": 0.0, "model": 0.0
    }  # fmt: skip
    for method in ("snip", "seven_pre", "seven_dyn"):
        unpruned = run(make_config(f"pruner={method}", "sparsity=0", *SHORT))
        assert unpruned["params"]["kept"] == unpruned["params"]["prunable"]
        assert unpruned["metrics"]["accuracy_last"] == dense["metrics"]["accuracy_last"]


def flip(path, position):
    """One bit of a file turned over."""
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a bit early": lambda path: flip(path, path.stat().st_size // 5),
    "a bit late": lambda path: flip(path, -9),
    "missing": lambda path: path.unlink(),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    given = ("pruner=magnitude", "start=init", "trainer.max_epochs=1", *SHORT[2:])
    done = program(*given, f"output_root={root}")
    assert done.returncode == 0, done.stderr
    return root, given


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name", ["result.json", "masks.safetensors", "predictions.safetensors", "config.yaml"]
)
def test_a_damaged_file_is_said_and_the_run_done_again(
    finished, make_config, tmp_path, name, damage, caplog
):
    root, given = finished
    shutil.copytree(root, tmp_path / "copy")
    config = make_config(*given, f"output_root={tmp_path}/copy")
    folder = RunFolder(identify(config).folder(config.output_root))
    first = folder.record()
    before = (folder.path / name).read_bytes()
    assert first is not None and folder.state() == "done" and folder.damage() is None
    DAMAGE[damage](folder.path / name)
    assert folder.record() is None and folder.state() == "failed"
    again = run(config)
    assert (again["mask_hash"], again["metrics"]) == (first["mask_hash"], first["metrics"])
    assert folder.state() == "done"
    if name != "config.yaml":  # it has the place that it was made for
        assert name == "result.json" or (folder.path / name).read_bytes() == before
    if (name, damage) != ("result.json", "missing"):  # then nothing says that it was done
        assert name in caplog.text and "done again" in caplog.text


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_are_found_where_they_are_read(finished, make_config, tmp_path, damage):
    root, given = finished
    shutil.copytree(root, tmp_path / "copy")
    config = make_config(*given, f"output_root={tmp_path}/copy")
    folder = RunFolder(identify(config).folder(config.output_root))
    whole = (folder.path / "model.safetensors").read_bytes()
    DAMAGE[damage](folder.path / "model.safetensors")
    assert folder.record(weights=True) is None
    assert "model.safetensors" in folder.damage(weights=True)
    run(config, weights=True)
    assert (folder.path / "model.safetensors").read_bytes() == whole


def test_status_tells_how_a_run_ended(make_config):
    diverging = ("start=init", "trainer.lr=1e30", "trainer.max_epochs=1")
    config = make_config("pruner=seven_dyn", *diverging, *SHORT[2:])
    with pytest.raises(ValueError, match="not finite"):
        run(config)
    folder = identify(config).folder(config.output_root)
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed" and "not finite" in status["reason"]
    assert not (folder / "result.json").exists()


def test_the_dense_start_is_the_run_that_one_may_type(make_config):
    nested = dense_start(
        make_config("start=dense", "trainer.lr=1e-5", "prunable.include=[patch_embedding]")
    )
    typed = make_config("pruner=dense", "start=init", "sparsity=0.3")
    assert identify(nested).run_id == identify(typed).run_id


def test_curves_are_written(sweep):
    for folder in folders(sweep):
        lines = (folder / "metrics.csv").read_text().splitlines()
        assert "validation/accuracy" in lines[0] and "train/loss" in lines[0]
        assert len(lines) == 3  # a header and two epochs


def test_a_home_goes_out_of_settings_and_comes_back(monkeypatch):
    config = {"start": {"path": "/home/me/a"}, "list": ["/home/me", "/home/melanie", 3], "x": None}
    monkeypatch.setenv("HOME", "/home/me")
    written = without_home(config)
    assert written == {"start": {"path": "~/a"}, "list": ["~", "/home/melanie", 3], "x": None}
    assert with_home(written) == config
    assert without_home("/mnt/home/me/a") == "/mnt/home/me/a"
    assert without_home("OSError: no /home/me/a/b") == "OSError: no ~/a/b"
    monkeypatch.setenv("HOME", "/")
    assert without_home(config) == config


def test_no_home_and_no_key_is_written(tmp_path):
    """Where files go and come from is written with "~" for the home; a key not at all."""
    home = tmp_path / "home" / "somebody"
    (home / "data").mkdir(parents=True)
    secret = "0123456789abcdef0123456789abcdef01234567"
    given = ("pruner=seven_dyn", "sparsity=0.5", "start=init", *SHORT[1:2], *SHORT[3:])
    done = program(
        *given, f"output_root={home}/runs", f"data_root={home}/data",
        HOME=str(home), WANDB_API_KEY=secret, HF_TOKEN=secret, WANDB_MODE="offline",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [path for path in (home / "runs").rglob("*") if path.is_file()]
    assert {"result.json", "config.yaml", "status.json"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert secret.encode() not in content, path
        if "wandb" not in path.parts:  # W&B notes the place it runs at in its own files
            assert str(home).encode() not in content, path
    (config,) = (path for path in files if path.name == "config.yaml")
    assert yaml.safe_load(config.read_text())["data_root"] == "~/data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        assert RunFolder(config.parent).read_config()["data_root"] == f"{home}/data"
    unstable = ("trainer.lr=1e30", "logger=none", f"output_root={home}/failed")
    failed = program(*given, *unstable, HOME=str(home))
    assert failed.returncode == 1
    for path in (home / "failed").rglob("*.*"):
        assert not path.is_file() or str(home).encode() not in path.read_bytes(), path


def test_without_epochs_what_was_pruned_is_measured_as_it_is(tmp_path):
    given = ("start=init", "sparsity=0.5", f"output_root={tmp_path}")
    untrained = (*SHORT, "trainer.max_epochs=0")
    names = ("dense", "random")
    done = [program(f"pruner={name}", *given, *untrained) for name in names]
    assert [finished.returncode for finished in done] == [0, 0], done
    dense, pruned = (next(tmp_path.rglob(f"{name}/*/*/result.json")) for name in names)
    masks = MaskSet(load_masks(pruned.with_name("masks.safetensors")))
    before = load_file(dense.with_name("model.safetensors"))
    after = load_file(pruned.with_name("model.safetensors"))
    for name, value in before.items():
        expected = value * masks[name] if name in masks else value
        assert torch.equal(after[name], expected), name
    record = read_record(pruned)
    assert record["cost"]["example_equivalents"]["training"] == 0
    assert record["metrics"]["last_epoch"] == 0


def test_data_that_is_replaced_as_a_run_begins_is_no_other_runs(make_config, tmp_path, monkeypatch):
    import seven_bench.running.run as module

    write_glue(tmp_path / "data", "sst2", train=20)
    config = make_config(
        "task=glue/sst2", "model=tiny_bert", "start=init", "pruner=magnitude", *SHORT,
        f"data_root={tmp_path}/data",
    )  # fmt: skip
    start = module.starting_model

    def replaced(*given):
        write_glue(tmp_path / "data", "sst2", train=30)
        return start(*given)

    monkeypatch.setattr(module, "starting_model", replaced)
    with pytest.raises(RuntimeError, match="data, weights or tokenizer were changed while"):
        run(config)
    assert RunFolder(identify(config).folder(config.output_root)).record() is None
