"""What a model that needs no training scores before it: CLIP's accuracy, dense and pruned."""

from __future__ import annotations

from seven_bench.data.task_data import TaskData
from seven_bench.settings.identity import Config
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.fit import Machine, evaluate, snapshot
from seven_bench.training.module import TaskModule


class ZeroShot:
    """Scores the module on test as it is made (`dense`), and at every `measure`.

    Does nothing for tasks other than CLIP's, or when the start was trained on the task. `found`:
    metrics by name, as `zero_shot_accuracy_dense`; given those, of an earlier life of the run, it
    does not measure them again.
    """

    def __init__(
        self,
        config: Config,
        module: TaskModule,
        data: TaskData,
        machine: Machine,
        found: dict[str, float] | None = None,
    ) -> None:
        self.module, self.data, self.machine = module, data, machine
        self.wanted = config["task"]["kind"] == "clip" and config["start"]["kind"] != "dense"
        self.found = found or {}
        if found is None:
            self.measure("dense")

    def measure(self, name: str) -> None:
        """Scores the module's weights as they are now; the random generators do not move."""
        if not self.wanted:
            return
        state = random_state()
        scores = evaluate(self.module, self.data, self.machine, snapshot(self.module))
        restore_random_state(state)
        for metric, value in scores.items():
            if metric != "loss":
                self.found[f"zero_shot_{metric}_{name}"] = value
