"""Suites: cells, shards, what is done, what failed, and the same results under every launcher."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from seven_bench.commands.sweep_progress import Past
from seven_bench.commands.sweeper import Job, _in_order
from seven_bench.settings.identity import identify
from seven_bench.store.integrity import fingerprints
from seven_bench.store.record import read_record, write_record
from seven_bench.store.run_folder import BusyError, RunFolder
from tests.conftest import ROOT, RUNS, program

TINY = ("start=init", "trainer.max_epochs=1", "logger=none", "progress=false")


def records(root):
    return {
        path.parent.relative_to(root).as_posix(): read_record(path)
        for path in root.rglob("result.json")
    }


def test_cells_have_their_own_settings_and_typed_values_win(tmp_path):
    done = program(
        "experiment=digits_demo",
        "sparsity=0.5",
        "seed=3,4",
        "dry_run=true",
        f"output_root={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    # a dense run and nine methods, at the typed sparsity, for two seeds
    assert "20 runs: 0 done, 20 to do" in done.stdout
    assert not list(tmp_path.rglob("result.json"))


def test_a_dry_run_tells_the_schedule_and_what_does_not_fit(tmp_path):
    done = program(
        "-m", "pruner=snip,seven_dyn", "start=init", "trainer.max_epochs=1", "dry_run=true",
        "pruner.schedule.start=30it,0.1", f"output_root={tmp_path}",
    )  # fmt: skip
    assert "does not fit" in done.stdout  # seven_dyn from step 30 of 40
    assert "to step 24/40" in done.stdout
    assert "19,661" in done.stdout  # kept
    assert "pruner.schedule.start" in done.stderr  # snip's schedule has no such key


def test_shards_are_disjoint_and_together_whole(tmp_path):
    plans = []
    for part in ("1/3", "2/3", "3/3"):
        done = program(
            "-m", "pruner=random", "sparsity=0.1,0.2,0.3,0.4", "seed=0", f"shard={part}",
            "dry_run=true", f"output_root={tmp_path}",
        )  # fmt: skip
        plans.append({s for s in ("0.1", "0.2", "0.3", "0.4") if f" {s} " in done.stdout})
    assert set.union(*plans) == {"0.1", "0.2", "0.3", "0.4"}
    assert sum(map(len, plans)) == 4


@pytest.fixture(scope="module")
def with_failures(tmp_path_factory):
    root = tmp_path_factory.mktemp("failures")
    arguments = ("-m", "pruner=seven_dyn", "trainer.lr=1e-3,1e30", "sparsity=0.5,7", *TINY)
    return root, arguments, program(*arguments, f"output_root={root}")


def test_a_failed_run_stops_no_other_and_is_reported_with_its_command(with_failures):
    root, _, done = with_failures
    assert done.returncode == 1
    assert len(records(root)) == 1
    assert "3 failed:" in done.stderr
    assert "sparsity=7: allowed is a number in [0, 1)" in done.stderr
    assert "not finite" in done.stderr
    lines = done.stderr.splitlines()
    repeat = lines[next(i for i, line in enumerate(lines) if "not finite" in line) - 1]
    assert "trainer.lr=1e+30" in repeat and "sparsity=0.5" in repeat
    assert repeat.strip().startswith("python -m seven_bench pruner=seven_dyn")
    assert "Traceback" not in done.stderr


def test_retry_failed_is_a_choice(with_failures):
    root, arguments, _ = with_failures
    status = next(p for p in root.rglob("status.json") if "failed" in p.read_text())
    before = status.stat().st_mtime_ns
    done = program(*arguments, "retry_failed=false", f"output_root={root}")
    assert done.returncode == 1 and "not finite" in done.stderr
    assert status.stat().st_mtime_ns == before
    program(*arguments, f"output_root={root}")
    assert status.stat().st_mtime_ns > before


def test_the_order_keeps_workers_busy(make_config):
    """Dense starts first, then the top of each ladder, longer runs, what ladders share."""

    def job(*given):
        settings = make_config("logger=none", *given)
        folder = identify(settings).folder(settings.output_root)
        return Job(given, settings, RunFolder(folder))

    ladder = [job("pruner=lth", f"sparsity={s}") for s in (0.5, 0.9, 0.8)]
    short, long = job("pruner=snip"), job("pruner=snip", "trainer.max_epochs=20")
    other = job("pruner=snip", "seed=1")
    found = _in_order([*ladder, short, long, other], Past())
    assert found == [other, ladder[1], long, short, ladder[0], ladder[2]]
    assert _in_order([short, other], Past()) == [short, other]


def test_more_than_one_device_is_refused_in_a_multirun(tmp_path):
    done = program("-m", "trainer.devices=2", "seed=0,1", f"output_root={tmp_path}", *TINY)
    assert done.returncode == 1
    assert "type it as a run of its own" in done.stderr


COUNTED = """
import sys
from collections import Counter
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from seven_bench.commands import main
from seven_bench.store import finished

found = Counter()

def counted(holder, name):
    real = getattr(holder, name)
    def call(*given, **named):
        found[name] += 1
        return real(*given, **named)
    setattr(holder, name, call)

counted(ConfigLoaderImpl, "load_sweep_config")
counted(finished, "read_record")
code = main()
print(f"composed {found['load_sweep_config']}, read {found['read_record']}")
print("torch" in sys.modules)
sys.exit(code)
"""


def test_two_hundred_finished_runs_are_passed_over(tmp_path, make_config):
    """A config is composed once a method, a record read once, and torch is not needed."""
    template = make_config("pruner=random", *TINY)
    for seed in range(100):
        for sparsity in (0.5, 0.9):
            config = template.changed(seed=seed, sparsity=sparsity)
            folder = identify(config).folder(tmp_path)
            folder.mkdir(parents=True)
            for name in ("config.yaml", "masks.safetensors", "model.safetensors"):
                (folder / name).write_bytes(b"x")
            record = SAMPLE | {"run_id": identify(config).run_id, "seed": seed}
            record["integrity"] = {"files": fingerprints(folder)}
            write_record(folder / "result.json", record)
    command = [sys.executable, "-c", COUNTED, "-m", "pruner=random", "sparsity=0.5,0.9"]
    given = ["seed=range(100)", f"output_root={tmp_path}", *TINY]
    done = subprocess.run(command + given, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert "200 runs: 200 done, 0 to do" in done.stdout, done.stdout + done.stderr
    assert "composed 1, read 200\nFalse" in done.stdout


SAMPLE = {
    "schema_version": 1, "cell_id": "c", "task": "digits", "model": "vit_digits", "start": "init",
    "pruner": "random", "timing": "before", "distribution": "global", "pattern": "unstructured",
    "control": "none", "finetune": "full",
    "sparsity": dict.fromkeys(("target", "prunable", "encoder", "non_embedding", "model"), 0.5),
    "params": {"prunable": 2, "kept": 1, "model": 3}, "layers": {"a": {"kept": 1, "total": 2}},
    "metric": {"name": "accuracy", "value": 0.5, "higher_is_better": True, "split": "test",
               "epoch": "best"},
    "metrics": {"accuracy": 0.5}, "mask_hash": "h",
    "cost": {"example_equivalents": dict.fromkeys(
        ("scoring", "training", "rounds", "start", "total"), 0),
        "seconds": dict.fromkeys(("scoring", "training", "evaluation", "total"), 0.0),
        "peak_memory_bytes": 0},
    "efficiency": {},
    "environment": {"versions": {}, "git": None, "hardware": "x", "threads": 1,
                    "deterministic": True},
}  # fmt: skip


def test_one_process_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.claim(wait=False):
        assert folder.state() == "running"
        with pytest.raises(BusyError), RunFolder(tmp_path / "run").claim(wait=False):
            pass
        assert folder.state() == "running"  # the second comer left no mark
    with pytest.raises(RuntimeError, match="broken"), folder.claim(wait=False):
        raise RuntimeError("broken\ntrace")
    assert folder.state() == "failed" and folder.reason() == "RuntimeError: broken"
    status = json.loads((folder.path / "status.json").read_text())
    stale = status | {"state": "running", "heartbeat": 0}
    (folder.path / "status.json").write_text(json.dumps(stale))
    assert folder.state() == "stale"


@pytest.mark.parametrize(
    ("launcher", "plugin"),
    [
        ("parallel", "hydra_plugins.hydra_joblib_launcher"),
        ("slurm_local", "hydra_plugins.hydra_submitit_launcher"),
        ("ray_local", "hydra_plugins.hydra_ray_launcher"),
    ],
)
def test_every_launcher_gives_what_the_basic_one_gives(launcher, plugin, tmp_path):
    if find_spec("hydra_plugins") is None or find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed: hydra/launcher={launcher} is not tried here")
    suite = ("-m", "pruner=seven_pre,seven_dyn", "sparsity=0.9", "seed=0,1", *TINY)
    found = {}
    for name, extra in (("basic", ()), (launcher, (f"hydra/launcher={launcher}",))):
        root = tmp_path / name
        preload = "" if extra else RUNS
        done = program(*suite, *extra, f"output_root={root}", preload=preload)
        assert done.returncode == 0, done.stdout + done.stderr
        found[name] = {k: (r["mask_hash"], r["metrics"]) for k, r in records(root).items()}
    assert len(found["basic"]) == 4
    assert found[launcher] == found["basic"]
