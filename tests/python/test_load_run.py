"""`seven_bench.load_run`: a finished run's model, and no stranger's."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from seven_bench import load_run
from seven_bench.errors import ConfigError
from seven_bench.running.run import run
from seven_bench.store.finished import RunError
from seven_bench.store.integrity import fingerprints
from seven_bench.store.record import read_record, write_record


@pytest.fixture
def folder(make_config):
    settings = make_config(
        "model=tiny_vit", "start=init", "pruner=magnitude", "sparsity=0.9", "trainer.max_epochs=0",
        "logger=none", "trainer.accelerator=cpu", "trainer.threads=1",
    )  # fmt: skip
    run(settings)
    (record,) = Path(settings.output_root).rglob("result.json")
    return record.parent


def test_model_masks_and_record(folder):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = load_run(folder)
    assert torch.equal(torch.get_rng_state(), state)
    saved = load_file(folder / "model.safetensors")
    assert found.model.state_dict().keys() == saved.keys() and not found.model.training
    assert all(torch.equal(value, saved[n]) for n, value in found.model.state_dict().items())
    assert found.masks.hash() == found.record["mask_hash"]
    assert found.masks.kept == found.record["params"]["kept"]
    assert found.settings.sparsity == 0.9 and found.record["pruner"] == "magnitude"
    assert found.model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_run_that_is_not_whole_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match=r"result.json .*"):
        load_run(folder.parent)
    cut = folder / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"model.safetensors has .* bytes of"):
        load_run(folder)


@pytest.mark.parametrize("target", ["os.system", "torch.hub.load", "timm.create_model"])
def test_a_stranger_names_no_other_class(folder, target):
    """Sealed anew, as a stranger would: the seal says that files are whole, not whose they are."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"]["build"]["_target_"] = target
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    record = read_record(folder / "result.json", unsealed=True)
    record["integrity"] = {"files": fingerprints(folder)}
    write_record(folder / "result.json", record)
    with pytest.raises(ConfigError, match=target):
        load_run(folder)
