"""Curves on disk, W&B beside them: every run its own, failures as failures, nothing secret."""

import csv
import io
import json
import logging
import socket
import time
from pathlib import Path

import pytest

from seven_bench.commands import main
from seven_bench.results.dashboard import build_workspace, specification
from seven_bench.results.wandb_offline import read_offline_runs
from seven_bench.running.run import run
from seven_bench.running.suite_summary import show_suite
from seven_bench.settings.identity import identify
from seven_bench.settings.model import Logger
from seven_bench.terminal import Once
from seven_bench.training.loggers import loggers
from tests.conftest import ROOT

QUICK = ("start=init", "trainer.max_epochs=2", "progress=false")
KEY = "f4ce" * 10


@pytest.fixture(scope="module")
def wandb_runs(tmp_path_factory):
    """Three runs of one process with W&B offline; the last one diverges."""
    from hydra import compose, initialize_config_dir

    from seven_bench.settings.checks import checked
    from seven_bench.settings.conf import conf_dir

    root = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_API_KEY", KEY)
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            for overrides in (
                ("pruner=snip", "suite=two"),
                ("pruner=seven_dyn", "suite=two"),
                ("pruner=seven_dyn", "suite=three", "trainer.lr=1e30"),
            ):
                given = [*QUICK, *overrides, f"output_root={root}"]
                config = checked(compose("config", overrides=given))
                if "trainer.lr=1e30" in overrides:
                    with pytest.raises(ValueError, match="not finite"):
                        run(config)
                else:
                    run(config)
    return root


def test_runs_of_one_process_are_runs_of_their_own(wandb_runs):
    runs, unread = read_offline_runs(wandb_runs)
    assert not unread
    found = [(r.group, r.job_type, r.state, r.exit_code) for r in runs]
    assert found == [
        ("two", "snip", "finished", 0),
        ("two", "seven_dyn", "finished", 0),
        ("three", "seven_dyn", "failed", 1),
    ]
    assert [r.config["pruner"]["name"] for r in runs] == ["snip", "seven_dyn", "seven_dyn"]
    assert "${" not in json.dumps([r.config for r in runs])  # resolved


def test_final_figures_are_those_of_the_record(wandb_runs):
    runs, _ = read_offline_runs(wandb_runs)
    for wandb_run in runs[:2]:
        record = json.loads((wandb_runs / "runs" / wandb_run.name / "result.json").read_text())
        assert wandb_run.summary["final/accuracy"] == record["metric"]["value"]
        assert wandb_run.summary["final/kept"] == record["params"]["kept"]
        assert wandb_run.summary["progress/sparsity"] == pytest.approx(0.9, abs=1e-5)


def test_no_key_is_written(wandb_runs):
    files = [path for path in wandb_runs.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


def test_curves_hold_sparsity_density_and_churn(wandb_runs):
    finished = [p.parent for p in wandb_runs.rglob("result.json") if "seven_dyn" in str(p)]
    path = finished[0] / "metrics.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["progress/step"]) for row in rows] == [40, 80]
    assert 0 < float(rows[0]["progress/sparsity"]) < float(rows[1]["progress/sparsity"])
    churn = float(rows[1]["progress/sparsity"]) - float(rows[0]["progress/sparsity"])
    assert float(rows[1]["progress/churn"]) == pytest.approx(churn, abs=1e-6)  # masks only shrink
    assert {f"density/blocks.0.attn.{part}" for part in "qkv"} <= set(rows[0])


def test_a_failure_of_wandb_is_no_failure_of_the_run(make_config, monkeypatch, caplog):
    import wandb

    def fail(*args, **kwargs):
        raise wandb.Error("no room\nat all")

    monkeypatch.setattr(wandb, "init", fail)
    record = run(make_config("pruner=magnitude", *QUICK))
    assert record["metric"]["value"] > 0
    assert "W&B is off for this run: no room" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # wandb-workspaces' own, at import
def test_the_dashboard_is_built_without_a_network(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    spec = specification(build_workspace("team", "bench", "digits", "accuracy"))
    text = json.dumps(spec)
    for metric in ("final/accuracy", "progress/sparsity", "progress/churn", "density/", "digits"):
        assert metric in text
    assert main(["dashboard", "--project", "bench", "--dry-run", str(tmp_path / "spec.json")]) == 0
    assert json.loads((tmp_path / "spec.json").read_text())["project"] == "bench"


@pytest.mark.parametrize("silent", [True, False])
def test_online_without_an_answer_goes_on_offline(silent, make_config, monkeypatch, caplog):
    """Within 20 s, whether nobody listens or somebody who never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if silent:
            server.listen(16)
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        settings = make_config("pruner=magnitude", *QUICK)
        caplog.set_level("INFO")
        began = time.monotonic()
        with loggers(settings, "a/run", Path(settings.output_root)) as sinks:
            assert len(sinks) == 2
            assert time.monotonic() - began < 20
    assert "W&B is offline: http://127.0.0.1" in caplog.text
    runs, unread = read_offline_runs(Path(settings.output_root))
    assert not unread and [run.name for run in runs] == ["a/run"]


def test_a_message_that_repeats_comes_once_and_our_own_warnings_always(caplog):
    told = logging.getLogger("seven_bench.test"), logging.getLogger("a_library")
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(Once())
    for logger in told:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        for _ in range(3):
            told[0].info("the model has no pooler to prune")
            told[0].warning("nothing is left of a layer")
            told[1].warning("a font is missing")
    finally:
        for logger in told:
            logger.removeHandler(handler)
    lines = handler.stream.getvalue().splitlines()
    assert lines.count("the model has no pooler to prune") == 1
    assert lines.count("a font is missing") == 1
    assert lines.count("nothing is left of a layer") == 3


@pytest.fixture
def agent(monkeypatch, tmp_path):
    """What W&B's agent says to the program of a trial."""

    def ask(run_id: str) -> None:
        path = tmp_path / f"config-{run_id}.yaml"
        path.write_text("wandb_version: 1\n")
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
        monkeypatch.setenv("WANDB_RUN_ID", run_id)
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(path))

    return ask


def sweep_arguments() -> list[str]:
    """The example's first trial, as W&B's own agent writes its arguments."""
    import yaml
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    file = ROOT / "docs" / "examples" / "wandb_sweep" / "sweep.yaml"
    sweep = yaml.safe_load(file.read_text())
    chosen = {
        name: {"value": given.get("value", given.get("values", [given.get("min")])[0])}
        for name, given in sweep["parameters"].items()
    }
    assert sweep["command"][:2] == ["seven-bench", "${args_no_hyphens}"]
    ready = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    return [*ready, *sweep["command"][2:]]


# W&B's reader of an agent's file leaves it open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_trial_of_a_sweep_and_its_start_are_two_runs(agent, tmp_path, monkeypatch, capsys):
    from hydra import compose, initialize_config_dir

    from seven_bench.commands.run import perform
    from seven_bench.settings.conf import conf_dir

    given = [*sweep_arguments(), "logger.every=20", "trainer.max_epochs=1"]
    given += ["start.train.max_epochs=1", f"output_root={tmp_path}"]
    values = []
    for run_id in ("trial1", "trial2"):
        agent(run_id)
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            values.append(perform(compose("config", overrides=given)))
    assert "already done: snip" in capsys.readouterr().out
    runs, unread = read_offline_runs(tmp_path / "wandb")
    assert not unread
    ids = [run.path.name.rpartition("-")[2] for run in runs]
    start, first, second = runs
    assert ids[1:] == ["trial1", "trial2"] and ids[0] not in ids[1:]
    assert start.job_type == "dense" and first.name == second.name != start.name
    record = json.loads((tmp_path / "runs" / first.name / "result.json").read_text())
    for trial, value in zip((first, second), values, strict=True):  # a done one tells it at once
        assert trial.summary["validation/accuracy"] == value
        assert trial.summary["final/accuracy"] == record["metric"]["value"]
        told = {key for key in trial.summary if key.startswith("final/")}
        wanted = {f"final/sparsity_{n}" for n in ("prunable", "encoder", "non_embedding", "model")}
        wanted |= {"final/cost/total", "final/cost/scoring", "final/cost/start"}
        wanted |= {"final/bytes/packed", "final/macs/masked", "final/seconds/total", "final/kept"}
        assert wanted <= told
        assert trial.summary["final/bytes/packed"] == record["efficiency"]["bytes"]["packed"]
    assert first.summary["step/sparsity"] == pytest.approx(0.9, abs=1e-5)
    assert first.tags == ["digits", "vit_digits", "snip", "start=dense", "sparsity=0.9"]


def test_a_suite_has_a_run_of_its_own_with_the_figure(make_config, tmp_path):
    settings = make_config("pruner=magnitude", "suite=mine", *QUICK)
    folder = identify(settings).folder(settings.output_root)
    run(settings.model_copy(update={"logger": Logger(name="none")}))
    show_suite(settings, [folder])
    runs, _ = read_offline_runs(tmp_path / "wandb")
    (summary,) = runs
    assert (summary.group, summary.job_type) == ("mine", "summary")
    media = list((summary.path / "files" / "media").rglob("*.png"))
    assert len(media) == 1 and media[0].read_bytes().startswith(b"\x89PNG")
    assert any(key.startswith("figures/") for key in summary.summary)
