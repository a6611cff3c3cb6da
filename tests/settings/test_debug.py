"""debug=true: short for every method, apart from results, and never taken for one."""

import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import DEBUG, collect
from seven_bench.running.run import run
from seven_bench.settings.building import build
from seven_bench.settings.checks import stored
from seven_bench.settings.debug import BATCH, CALIBRATION, EXAMPLES
from seven_bench.settings.identity import dense_start, identify, recipe_part
from tests.settings.test_choices import choices

GIVEN = ("debug=true", "logger=none", "progress=false")
STEPS = 4  # of training that a tenth, or so, is held out of


@pytest.mark.parametrize("pruner", choices("pruner"))
def test_every_method_fits(make_config, pruner):
    given = make_config(*GIVEN, f"pruner={pruner}", "sparsity=0.5").pruner
    calibration = given.calibration
    assert calibration is None or calibration.examples <= CALIBRATION * BATCH
    if given.schedule is not None:
        before = given.timing == "before" and calibration is not None
        total = calibration.batches if before else 1 if given.timing != "during" else STEPS
        plan = build(given.schedule).plan(total, total)
        assert 1 <= plan.end <= total


def test_published_schedules_fit_too(make_config, tmp_path):
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"")
    weights = f"model.pretrained={tmp_path}"
    settings = make_config(*GIVEN, "experiment=seven/mnli", weights)
    assert settings.pruner.schedule.arguments["steps"] == "3it"
    assert (settings.trainer.batch_size, settings.trainer.max_epochs) == (BATCH, 1)
    assert settings.task.data.arguments["max_length"] == 32
    assert settings.start.train is None or settings.start.train.max_epochs == 1


def test_a_ladder_has_two_rounds(make_config):
    rounds = make_config(*GIVEN, "pruner=lth", "sparsity=0.9").pruner.rounds
    assert rounds.fraction == pytest.approx(1 - 0.1**0.5, abs=1e-5)  # twice that is 0.9


def test_large_images_are_small(make_config):
    given = ("task=cifar10", "start=init", "data_root=null")
    model = make_config(*GIVEN, *given, "model=vit_base_patch16").model
    assert model.image.size == model.build.arguments["img_size"] == 64


def test_a_debug_run_is_marked_apart_and_in_no_table(make_config, tmp_path):
    settings = make_config(*GIVEN, "pruner=snip", "sparsity=0.5")
    record = run(settings)
    identity = identify(settings)
    assert identity.run_id.startswith("debug/digits/vit_digits/snip/s0.5/seed0-")
    assert identify(dense_start(settings)).run_id.startswith("debug/")
    assert stored(identity.folder(settings.output_root)) == settings
    assert record["debug"] is True and record["recipe"]["debug"] is True
    assert record["metrics"]["test_examples"] <= EXAMPLES
    assert record["metrics"]["train_examples"] <= EXAMPLES
    assert record["params"]["kept"] == record["params"]["prunable"] // 2
    found = collect([tmp_path])
    assert found.records.empty and {reason for _, reason in found.damaged} == {DEBUG}
    with pytest.raises(ValueError, match=r"no result\.json that can be read"):
        write_report([tmp_path], tmp_path / "report")
    assert "debug" not in recipe_part(make_config("logger=none"))
