"""A task's data as a run's config has it."""

from __future__ import annotations

import json
from typing import Any

from seven_bench.data.augment import Augment
from seven_bench.data.task_data import TaskData
from seven_bench.settings.building import build
from seven_bench.settings.debug import EXAMPLES
from seven_bench.settings.model import Settings
from seven_bench.settings.sources import fingerprint, local_files
from seven_bench.settings.weights import TOKENIZER, tokenizer_source
from seven_bench.settings.weights import fingerprint as fingerprint_of_weights


def _content(settings: Settings, data: TaskData, further: dict[str, Any]) -> str:
    """All that decides what is loaded, and nothing else: neither seed nor batch size."""
    task = settings.task
    named = dict(further)
    if (where := named.get("tokenizer", "data")) != "data":
        named["tokenizer"] = fingerprint_of_weights(where, TOKENIZER)
    return json.dumps(
        [
            settings.model_dump_json(include={"task", "data", "debug"}),
            fingerprint(task.source, settings.data_root, task.name),
            {split: str(path) for split, path in data.files.items()},
            named,
        ],
        default=str,
    )


def make_data(settings: Settings, batch_size: int) -> TaskData:
    """The data of a run's task; nothing is read before `setup`.

    Args:
        settings: checked; their model says which tokenizer texts are cut by.
        batch_size: training examples a batch.
    """
    task, model = settings.task, settings.model
    further: dict[str, Any] = {}
    if model.tokenizer is not None:
        further["tokenizer"] = tokenizer_source(model, settings.start)
        further["vocabulary"] = model.vocabulary
    if task.labels is not None:
        further["labels"] = task.labels
    if model.pad_to is not None:
        further["pad_to"] = model.pad_to
    data: TaskData = build(
        task.data,
        seed=settings.seed,
        split_seed=settings.data.split_seed,
        batch_size=batch_size,
        files=local_files(task.source, settings.data_root, task.name),
        hub=task.source.hub,
        hub_config=task.source.config,
        **further,
    )
    data.classes = task.classes
    data.content = _content(settings, data, further)
    data.most = EXAMPLES if settings.debug else None
    if (chosen := settings.trainer.augment).changes:
        data.augment = Augment(task.classes, **chosen.model_dump())
    return data
