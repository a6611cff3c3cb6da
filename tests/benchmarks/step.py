"""One pruning step during training against one dense training step, and against the plain way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch

from seven_bench.baselines.movement import MovementScore
from seven_bench.baselines.platon import PlatonScore
from seven_bench.pruning import Cubic, Score, SevenScore, kept_count, prunable_parameters
from seven_bench.pruning.pruner import Method, Pruner
from seven_bench.training.pruning_callback import PruningCallback
from tests.benchmarks.models import SHAPES, Pictures, Shape
from tests.benchmarks.published import PlainPruner
from tests.benchmarks.timing import Row, in_words, interleaved

UPDATES = 600  # SEVEN's authors' shortest schedule (MRPC); its first, steepest steps are measured
METHODS: dict[str, tuple[Callable[[], Score], str]] = {
    "seven": (SevenScore, "hard"),
    "platon": (PlatonScore, "regrow"),
    "movement": (partial(MovementScore, optimizer="sgd"), "straight_through"),  # as the plain one
}


class Training:
    """A model, its optimizer, and one method at work in it as in a run; in bfloat16 on a GPU."""

    def __init__(self, shape: Shape | Pictures, method: str, device: str = "cpu") -> None:
        self.shape, self.device = shape, device
        self.model = shape.build().to(device)
        self.batch = {name: value.to(device) for name, value in shape.inputs().items()}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.params = prunable_parameters(self.model)
        kind, masking = METHODS[method]
        rules = Method(kind(), Cubic(steps=1.0), 0.9, masking=masking)
        plan = rules.schedule.plan(UPDATES, UPDATES)
        self.pruner = Pruner(rules, plan, self.params, torch.Generator())
        self.callback = PruningCallback(self.params, self.pruner)
        plugin = SimpleNamespace(precision="32-true", scaler=None)
        self.trainer = SimpleNamespace(
            optimizers=[self.optimizer], precision_plugin=plugin, global_step=0
        )
        self.plain = PlainPruner(method, self.params)
        self.plain_weights = {n: p.detach().clone() for n, p in self.params.items()}
        self.plain_step = 0
        self.callback.on_train_start(self.trainer, self.model)
        self.callback._hook.remove()  # it is called, and timed, by itself

    def dense_step(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.shape.loss(self.model, self.batch)
        loss.backward()
        self.optimizer.step()

    def pruning_step(self) -> None:
        self.callback.on_before_optimizer_step(self.trainer, self.model, self.optimizer)
        self.callback._after_step(self.optimizer, (), {})

    def published_step(self) -> None:
        self.plain_step += 1
        rules = self.pruner.method
        total = self.pruner.masks.total
        sparsity = rules.schedule.sparsity(self.plain_step, UPDATES, rules.sparsity)
        grads = {name: p.grad for name, p in self.params.items()}
        self.plain.step(self.plain_weights, grads, kept_count(total, sparsity))


def rows() -> list[Row]:
    """A step of each method on MiniLM; SEVEN's on the shape of BERT-base too."""
    torch.set_num_threads(2)
    found = []
    for shape, method in [*(("MiniLM", m) for m in METHODS), ("BERT-base", "seven")]:
        training = Training(SHAPES[shape], method)
        small = shape == "MiniLM"
        seconds = interleaved(
            {
                "dense": training.dense_step,
                "ours": training.pruning_step,
                "plain": training.published_step,
            },
            repeats=9 if small else 3,
            warm=2 if small else 1,
        )
        name = f"{method} step, {shape}, batch {SHAPES[shape].batch}, 64 tokens"
        path = getattr(getattr(training.pruner.method.score, "fused", None), "path", "eager")
        ours = f"{in_words(seconds['ours'])} ({path})"
        found += [
            Row(
                f"{name} / dense training step", seconds["ours"] / seconds["dense"], "",
                0.06 if small else 0.10, True, ours, in_words(seconds["dense"]),
            ),
            Row(
                f"{name}: the published way / ours", seconds["plain"] / seconds["ours"], "x",
                20 if small else None, False, ours, in_words(seconds["plain"]),
            ),
        ]  # fmt: skip
        del training
    return found
