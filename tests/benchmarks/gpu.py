"""On a CUDA device: a pruning step in a training step, selection, 2:4, the training loop; and how
often the host waits for the device.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from seven_bench.export.semi_structured import DTYPE, make_semi_structured
from seven_bench.measure.latency import median_seconds
from seven_bench.pruning import MaskSet, prunable_parameters, prune
from seven_bench.training.compiled import Compiled
from seven_bench.training.context import Device
from seven_bench.training.finetune import Recipe
from tests.benchmarks import selection
from tests.benchmarks.loop import of_text
from tests.benchmarks.models import ON_GPU, Shape
from tests.benchmarks.step import METHODS, Training, copy_of
from tests.benchmarks.timing import Row, in_words, interleaved, wait
from tests.gpu.waits import host_waits

BERT = "BERT-base, batch 32, 128 tokens"


def rows() -> list[Row]:
    """Every table of the GPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    found = [*_selection(), *_steps(), _loop(), _compiled()]
    return [*found, *(_semi_structured(*size) for size in ((32, 64), (128, 128), (128, 512)))]


def _steps() -> Iterator[Row]:
    for name, shape in ON_GPU.items():
        for method in METHODS:
            if method != "seven" and name != BERT:
                continue
            yield from _step(name, Training(shape, method, "cuda"), method)
            torch.cuda.empty_cache()


def _step(name: str, training: Training, method: str) -> Iterator[Row]:
    ways = {
        "dense": training.dense_step,
        "ours": training.pruning_step,
        "plain": training.published_step,
    }
    if method == "seven":
        ways["copy"] = copy_of(training.moved, "cuda")
    seconds = interleaved(ways, repeats=25, warm=12)
    waits = host_waits(training.pruning_step)
    named = f"{method} step, {name}, bf16"
    ours, dense = in_words(seconds["ours"]), in_words(seconds["dense"])
    ratio = seconds["ours"] / seconds["dense"]
    yield Row(f"{named} / dense training step", ratio, "", 0.3, True, ours, dense)
    ratio = seconds["plain"] / seconds["ours"]
    plain = in_words(seconds["plain"])
    bound = 1 if method == "seven" else None
    yield Row(f"{named}: the published way / ours", ratio, "x", bound, False, ours, plain)
    if "copy" in seconds:
        ratio = seconds["ours"] / seconds["copy"]
        moved = in_words(seconds["copy"])
        name = f"{named} / a copy of the bytes it must move"
        yield Row(name, ratio, "", None, True, ours, moved)
    yield Row(f"{named}: times the host waits", waits, "", 4)


def _selection() -> Iterator[Row]:
    for kind in ("distinct", "50 values", "half zeros"):
        yield from _selected(_scores(kind, selection.shapes().values()), kind)
    layers = ([(2048, 2048)] * 4 + [(8192, 2048), (2048, 8192)]) * 20  # of a model of 1B weights
    yield from _selected(_scores("distinct", layers), "distinct")
    torch.cuda.empty_cache()


def _scores(kind: str, shapes: Iterable[tuple[int, int]]) -> dict[str, Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    scores = {}
    for i, shape in enumerate(shapes):  # not uniform numbers: float32 has but 2^24 of them
        drawn = torch.randn(shape, device="cuda", generator=generator).abs_().mul_(0.2)
        scores[str(i)] = selection.of_kind(kind, drawn, generator)
    return scores


def _selected(scores: dict[str, Tensor], kind: str) -> Iterator[Row]:
    living = MaskSet.ones(scores)
    small, distinct = living.total < 1e8, kind == "distinct"
    kept = living.total - round(selection.SPARSITY * living.total)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    masks = prune(scores, living, selection.SPARSITY)
    extra = torch.cuda.max_memory_allocated() - before - living.total
    if masks.kept != kept:
        raise AssertionError(f"{masks.kept} of {kept} were kept")
    del masks
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    ways = {
        "ours": lambda: prune(scores, living, selection.SPARSITY),
        "topk": lambda: flat.topk(kept, sorted=False),
        "sort": lambda: flat.sort(),
    }
    if not small:
        ways.pop("sort")
    torch.use_deterministic_algorithms(False)  # kthvalue has no such way
    seconds = interleaved(ways, repeats=15 if small else 5, warm=2)
    slow = {"kthvalue": lambda: flat.kthvalue(flat.numel() - kept + 1)}
    seconds |= interleaved(slow, repeats=3 if small else 1, warm=int(small))
    name = f"selection and masks, {living.total / 1e6:.0f}M scores, {kind}"
    ours = seconds.pop("ours")
    for other, took in seconds.items():
        told = in_words(ours), in_words(took)
        bound = {"kthvalue": 0.02, "topk": 1.5, "sort": 1}[other] if distinct else None
        yield Row(f"{name} / torch.{other} alone", ours / took, "", bound, True, *told)
    waits = host_waits(lambda: prune(scores, living, selection.SPARSITY))
    yield Row(f"{name}: times the host waits", waits, "", (1 if small else 2) if distinct else 3)
    yield Row(f"{name}: extra memory beside the masks, bytes a score", extra / living.total, "B", 9)


def _loop() -> Row:
    shape = ON_GPU[BERT]
    assert isinstance(shape, Shape)
    recipe = Recipe(
        max_epochs=1, batch_size=shape.batch, lr=1e-5, warmup=0.0, precision="bf16-mixed"
    )
    name = f"training loop with masks, {BERT}, bf16: steps a second / bare loop"
    return of_text(name, shape, recipe, Device("gpu", deterministic=False), 60, 5, 0.65)


def _compiled() -> Row:
    """A training step of `trainer.compile=true` against a plain one; what compiling takes, once a
    run, is told beside.
    """
    shape = ON_GPU[BERT]
    model = shape.build().cuda()
    batch = {name: value.cuda() for name, value in shape.inputs().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    code = Compiled(model, varying=True)

    def step(compiled: bool) -> None:
        optimizer.zero_grad()
        at_work = code.at_work() if compiled else nullcontext()
        with torch.autocast("cuda", torch.bfloat16), at_work:
            loss = shape.loss(model, batch)
        loss.backward()
        optimizer.step()

    began = time.perf_counter()
    step(True)
    wait()
    once = time.perf_counter() - began
    seconds = interleaved({"plain": lambda: step(False), "ours": lambda: step(True)}, 15, warm=5)
    name = f"training step, {BERT}, bf16: plain / trainer.compile=true"
    told = f"{in_words(seconds['ours'])}, compiled in {once:.0f} s"
    ratio = seconds["plain"] / seconds["ours"]
    return Row(name, ratio, "x", None, False, told, in_words(seconds["plain"]))


def _semi_structured(batch: int, tokens: int) -> Row:
    """`seven-bench export --to nm`'s way against the dense model, both in bfloat16."""
    shape = Shape(768, 12, 12, 3072, batch, tokens)
    model = shape.build().eval()
    params = prunable_parameters(model)
    model.cuda()
    scores = {n: p.detach().abs() for n, p in params.items()}
    masks = prune(scores, MaskSet.ones(params), 0.5, "uniform", "nm_2_4")
    masks.apply_({n: p.data for n, p in params.items()})
    inputs = {n: v.cuda() for n, v in shape.inputs().items()}
    dense = copy.deepcopy(model).to(DTYPE)
    sparse = make_semi_structured(model, list(masks))
    ways = {"dense": lambda: dense(**inputs).logits, "nm": lambda: sparse(**inputs).logits}
    with torch.inference_mode():
        off = float((ways["nm"]() - ways["dense"]()).abs().max())
    if off > 0.1:
        raise AssertionError(f"logits differ by {off}")
    seconds = median_seconds(ways, repeats=20, warm=5)
    name = f"inference, BERT-base, batch {batch}, {tokens} tokens, bf16: 2:4 / dense"
    told = f"{in_words(seconds['nm'])}, off by {off:.0e}"
    ratio = seconds["dense"] / seconds["nm"]
    return Row(name, ratio, "x", None, False, told, in_words(seconds["dense"]))
