"""A task's data as a run's config has it."""

from __future__ import annotations

from typing import Any

from seven_bench.data.task_data import TaskData
from seven_bench.settings.building import build
from seven_bench.settings.sources import local_files
from seven_bench.settings.weights import tokenizer_source


def make_data(config: dict[str, Any], batch_size: int) -> TaskData:
    """The data of a checked config's task; nothing is read before `setup`.

    Args:
        config: a checked config; its model says which tokenizer texts are cut by.
        batch_size: training examples a batch.
    """
    task, model = config["task"], config["model"]
    further: dict[str, Any] = {}
    if "tokenizer" in model:
        further["tokenizer"] = tokenizer_source(model, config["start"])
        further["vocabulary"] = model["vocabulary"]
    data: TaskData = build(
        task["data"],
        seed=config["seed"],
        batch_size=batch_size,
        files=local_files(task["source"], config["data_root"], task["name"]),
        hub=task["source"].get("hub"),
        hub_config=task["source"].get("config"),
        **further,
    )
    return data
