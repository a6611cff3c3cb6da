"""One pruning step during training against one dense training step, and against the plain way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from seven_bench.baselines.movement import MovementScore
from seven_bench.baselines.platon import PlatonScore
from seven_bench.pruning import (
    Cubic,
    MaskSet,
    Observation,
    Score,
    SevenScore,
    kept_count,
    prunable_parameters,
    prune,
)
from seven_bench.pruning.pruner import Method, Pruner, Settled
from seven_bench.training.finetune import Recipe, make_optimizer
from seven_bench.training.pruning_callback import PruningCallback
from seven_bench.training.text import TextModule
from tests.benchmarks.models import SHAPES, Pictures, Shape
from tests.benchmarks.published import PlainPruner
from tests.benchmarks.timing import Row, in_words, interleaved

UPDATES = 600  # SEVEN's authors' shortest schedule (MRPC); its first, steepest steps are measured
# The bytes that must move in a step for each prunable weight, each read and each write once: update
# (SEVEN 33: weight, gradient, mask, three states; PLATON 16: weight, gradient, the window's mean;
# movement 16: weight, gradient, score), the score that is the product of two states (PLATON 12),
# gradient masked (9), score selected (6: score, what lives, mask), masks compared for the moments
# (SEVEN 2), the weight underneath put in and taken out (movement 16), weight masked (9). And for
# each parameter of the model: gradient checked (4).
MOVED = {"seven": 33 + 9 + 6 + 2 + 9, "platon": 16 + 12 + 6 + 9, "movement": 16 + 9 + 16 + 6 + 9}
CHECKED = 4
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
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.params = prunable_parameters(self.model)
        kind, masking = METHODS[method]
        rules = Method(kind(), Cubic(steps=1.0), 0.9, masking=masking)
        plan = rules.schedule.plan(UPDATES, UPDATES)
        self.pruner = Pruner(rules, plan, self.params, torch.Generator())
        self.callback = PruningCallback(self.params, self.pruner)
        plugin = SimpleNamespace(precision="32-true", scaler=None)
        self.trainer = SimpleNamespace(
            optimizers=[self.optimizer],
            precision_plugin=plugin,
            global_step=0,
            gradient_clip_val=None,
        )
        every = sum(parameter.numel() for parameter in self.model.parameters())
        self.moved = MOVED[method] * self.pruner.masks.total + CHECKED * every
        self.plain = PlainPruner(method, self.params)
        self.plain_weights = {n: p.detach().clone() for n, p in self.params.items()}
        self.plain_step = 0
        self.callback.on_train_start(self.trainer, self.model)
        self.callback.steps._hook.remove()  # it is called, and timed, by itself

    @property
    def window(self) -> int:
        """Steps before a score tells anything."""
        return getattr(self.pruner.method.score, "window", 1)

    @property
    def path(self) -> str:
        """Whether the score's update is compiled."""
        parts = [vars(self.pruner.method.score).get(name) for name in ("fused", "look")]
        return next((str(part.path) for part in parts if part is not None), "eager")

    def dense_step(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.shape.loss(self.model, self.batch)
        loss.backward()
        self.optimizer.step()

    def pruning_step(self) -> None:
        self.callback.on_before_optimizer_step(self.trainer, self.model, self.optimizer)
        self.callback.steps._after_step(self.optimizer, (), {})

    def published_step(self) -> None:
        self.plain_step += 1
        rules = self.pruner.method
        total = self.pruner.masks.total
        sparsity = rules.schedule.sparsity(self.plain_step, UPDATES, rules.sparsity)
        grads = {name: p.grad for name, p in self.params.items()}
        self.plain.step(self.plain_weights, grads, kept_count(total, sparsity))


def rows() -> list[Row]:
    """A step of each method on MiniLM; SEVEN's on the shape of BERT-base too; a step by part."""
    torch.set_num_threads(2)
    found = []
    for shape, method in [*(("MiniLM", m) for m in METHODS), ("BERT-base", "seven")]:
        training = Training(SHAPES[shape], method)
        small = shape == "MiniLM"
        training.dense_step()
        for _ in range(training.window):
            training.pruning_step()
        ways: dict[str, Callable[[], object]] = {
            "dense": training.dense_step,
            "ours": training.pruning_step,
            "plain": training.published_step,
        }
        ways["copy"] = copy_of(training.moved, "cpu")
        ways["bare"] = bare_step(method, training)
        seconds = interleaved(
            ways,
            repeats=9 if small else 3,
            warm=2 if small else 1,
        )
        name = f"{method} step, {shape}, batch {SHAPES[shape].batch}, 64 tokens"
        ours = f"{in_words(seconds['ours'])} ({training.path})"
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
        copied, bare = seconds["copy"], in_words(seconds["bare"])
        moved = f"{in_words(copied)}, {training.moved / copied / 1e9:.0f} GB/s"
        found += [
            Row(f"{name} / a copy of the bytes it must move", seconds["ours"] / copied, "",
                2, True, ours, moved),
            Row(f"{name}: least operations on flat tensors / that copy", seconds["bare"] / copied,
                "", None, True, bare, moved),
        ]  # fmt: skip
        del training, ways
    return [*found, *_parts("MiniLM")]


def bare_step(method: str, training: Training) -> Callable[[], None]:
    """The floor: what a step must do to so many numbers, where all weights are one flat tensor and
    the value of the cut is known; nothing is looked for, named or checked on the way.
    """
    n = training.pruner.masks.total
    draw = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(n, generator=draw) for _ in range(2))
    gradients = torch.randn(sum(p.numel() for p in training.model.parameters()), generator=draw)
    mask, made = (torch.ones(n, dtype=torch.bool) for _ in range(2))
    beneath, differing = torch.empty_like(weight), torch.empty(n // 8, dtype=torch.bool)
    score = METHODS[method][0]()
    score.reset({"flat": weight})
    seen = Observation({"flat": weight}, {"flat": gradient}, MaskSet({"flat": mask}), 0)

    def times_mask(values: Tensor) -> None:  # in pieces: torch makes numbers of a mask beside it
        for piece, bits in zip(values.split(1 << 20), mask.split(1 << 20), strict=True):
            piece.mul_(bits.view(torch.uint8))

    def step() -> None:
        torch.linalg.vector_norm(gradients)
        score.observe(seen)
        scores = score.scores(seen.params, seen.masks)["flat"]
        torch.ge(scores, 1e-3, out=made)
        if method != "platon":
            times_mask(gradient)
        if method == "movement":
            beneath.copy_(weight)
            weight.copy_(beneath)
        if method == "seven":
            torch.ne(mask.view(torch.int64), made.view(torch.int64), out=differing)
        times_mask(weight)

    return step


def copy_of(size: int, device: str) -> Callable[[], object]:
    """A copy that reads and writes `size` bytes in all."""
    target = torch.empty(size // 8, dtype=torch.float32, device=device)
    source = torch.rand_like(target)
    return lambda: target.copy_(source)


def _parts(shape: str, repeats: int = 9) -> list[Row]:
    """A training step under settled masks, by part: a run's optimizer, clipping and callback."""
    recipe = Recipe(1, 1e-5, SHAPES[shape].batch)
    module = TextModule(SHAPES[shape].build(), recipe, 2, ["accuracy"])
    model, batch = module.model, SHAPES[shape].inputs()
    optimizer = make_optimizer(model, recipe)
    params = prunable_parameters(model)
    scores = {name: p.detach().abs() for name, p in params.items()}
    callback = PruningCallback(params, Settled(prune(scores, MaskSet.ones(params), 0.9)))
    plugin = SimpleNamespace(scaler=None)
    trainer: Any = SimpleNamespace(
        optimizers=[optimizer], precision_plugin=plugin, global_step=0, gradient_clip_val=1.0
    )
    module.on_fit_start()
    callback.on_train_start(trainer, module)
    callback.steps._hook.remove()  # it is called, and timed, by itself
    before, taken = callback.on_before_optimizer_step, dict[str, list[float]]()
    for _ in range(2 + repeats):
        clock = time.perf_counter()
        loss = torch.zeros(())
        for name, part in {
            "forward": lambda: SHAPES[shape].loss(model, batch),
            "backward": lambda: loss.backward(),  # noqa: B023
            "check and masks": lambda: before(trainer, module, optimizer),
            "clipping": lambda: module.configure_gradient_clipping(optimizer, 1.0, "norm"),
            "AdamW": optimizer.step,
            "zeros kept": lambda: callback.steps._after_step(optimizer, (), {}),
        }.items():
            done: Any = part()
            loss = done if name == "forward" else loss
            taken.setdefault(name, []).append(-clock + (clock := time.perf_counter()))
        module.optimizer_zero_grad(0, 0, optimizer)
    seconds = {name: statistics.median(values[2:]) for name, values in taken.items()}
    total = sum(seconds.values())
    return [
        Row(f"a training step of {shape} at 0.9: {name} / the step", part / total, "", None, True,
            in_words(part), in_words(total))
        for name, part in seconds.items()
    ]  # fmt: skip
