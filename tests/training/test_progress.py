"""What a person watching sees: what is trained, epochs from 1, colours on black and on white."""

from types import SimpleNamespace

import torch
from rich.progress import BarColumn

from seven_bench.errors import install_line
from seven_bench.settings.identity import dense_start, title_of
from seven_bench.training.progress import COLOUR, RunBar


def luminance(colour):
    """Relative luminance of "#rrggbb", WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_bar_can_be_read_on_black_and_on_white():
    here = luminance(COLOUR)
    assert (here + 0.05) / 0.05 > 4.5 and 1.05 / (here + 0.05) > 4.5
    columns = RunBar(None, "", "accuracy").configure_columns(None)
    (bar,) = (column for column in columns if isinstance(column, BarColumn))
    assert {bar.complete_style, bar.finished_style, bar.pulse_style} == {COLOUR}


def test_the_bar_says_what_is_trained_and_how_it_goes():
    masks = SimpleNamespace(masks=SimpleNamespace(sparsity=0.25))
    bar = RunBar(masks, "dense start, seed 0", "accuracy")
    trainer = SimpleNamespace(max_epochs=30, callback_metrics={})
    bar._trainer = trainer
    assert bar._get_train_description(0) == "dense start, seed 0 | epoch 1/30"
    module = SimpleNamespace(loss_sum=torch.tensor(3.0), loss_count=4)
    assert bar.get_metrics(trainer, module) == {"loss": "0.750", "sparsity": "0.250"}
    trainer.callback_metrics["validation/accuracy"] = torch.tensor(0.5)
    assert bar.get_metrics(trainer, module)["validation"] == "0.500"


def test_a_run_has_a_title(make_config):
    settings = make_config("pruner=snip", "sparsity=0.5", "seed=3", "logger=none")
    assert title_of(settings) == "snip at 0.5, seed 3"
    assert title_of(dense_start(settings)) == "dense start, seed 3"
    assert title_of(make_config("pruner=dense", "logger=none")) == "dense row, seed 0"


def test_what_is_missing_is_installed_by_its_own_name(monkeypatch):
    """No index has this package: its own name installs nothing."""
    assert install_line("lora") == "pip install 'peft>=0.18'"
    assert install_line("not_known") == "pip install -e .[not_known] (a clone)"
