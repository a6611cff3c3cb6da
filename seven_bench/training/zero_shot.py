"""What a model that needs no training scores before it: CLIP's accuracy, dense and pruned."""

from __future__ import annotations

from seven_bench.data.task_data import TaskData
from seven_bench.training.context import Device
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.fit import evaluate, snapshot
from seven_bench.training.module import TaskModule


def zero_shot(module: TaskModule, data: TaskData, device: Device, name: str) -> dict[str, float]:
    """The test metrics of the module's weights as they are now; random generators do not move.

    Returns: metrics by name, as `zero_shot_accuracy_dense` where `name` is "dense".
    """
    state = random_state()
    scores = evaluate(module, data, device, snapshot(module))
    restore_random_state(state)
    return {f"zero_shot_{key}_{name}": value for key, value in scores.items() if key != "loss"}
