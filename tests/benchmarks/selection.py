"""Global selection over as many scores as ViT-B or BERT-base have, against `torch.kthvalue`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seven_bench.pruning import MaskSet, allocate, make_masks
from tests.benchmarks.models import SHAPES
from tests.benchmarks.timing import Row, in_words, interleaved, peak_memory

SPARSITY = 0.9


def shapes() -> dict[str, tuple[int, int]]:
    """The shapes of BERT-base's encoder: 85M weights."""
    shape = SHAPES["BERT-base"]
    inner = [(shape.inner, shape.width), (shape.width, shape.inner)]
    layers = ([(shape.width, shape.width)] * 4 + inner) * shape.depth
    return {str(i): layer for i, layer in enumerate(layers)}


def of_kind(kind: str, score: Tensor, generator: torch.Generator) -> Tensor:
    """A score in [0, 1], in place, with as many ties as its kind says."""
    if kind == "50 values":
        score.mul_(50).ceil_()
    elif kind == "half zeros":
        score.mul_(torch.rand(score.shape, generator=generator, device=score.device) < 0.5)
    return score


def _scores(kind: str) -> dict[str, Tensor]:
    """85M scores in those shapes."""
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.rand(s, generator=generator) ** 4 for n, s in shapes().items()}
    for score in scores.values():
        of_kind(kind, score, generator)
    return scores


def rows() -> list[Row]:
    """A row a kind of scores, and the extra memory of the worst of them."""
    torch.set_num_threads(2)
    found, extra = [], 0
    for kind in ("distinct", "50 values", "half zeros"):
        scores = _scores(kind)
        total = sum(score.numel() for score in scores.values())
        kept = total - round(SPARSITY * total)
        living = MaskSet.ones(scores)

        def ours(scores: dict[str, Tensor] = scores, living: MaskSet = living, k: int = kept):
            return make_masks(scores, living, allocate(scores, living, count=k))

        before = peak_memory(anew=True)
        masks = ours()
        extra = max(extra, peak_memory() - before - total)
        if masks.kept != kept:
            raise AssertionError(f"{masks.kept} of {kept} were kept")
        flat = torch.cat([score.reshape(-1) for score in scores.values()])
        reference: Callable[[], object] = lambda f=flat, k=kept: f.kthvalue(f.numel() - k + 1)  # noqa: E731
        seconds = interleaved({"ours": ours, "kthvalue": reference}, repeats=5)
        found.append(
            Row(
                f"selection and masks, {total / 1e6:.0f}M scores, {kind} / torch.kthvalue alone",
                seconds["ours"] / seconds["kthvalue"], "", 0.15, True,
                in_words(seconds["ours"]), in_words(seconds["kthvalue"]),
            )
        )  # fmt: skip
        del flat, masks, scores, living
    name = "selection: extra memory beside the masks"
    return [*found, Row(name, extra / 2**20, "MiB", 64)]
