"""Controls of methods that prune before training: what of a method's result is its own?

After "Missing the mark" (Frankle et al. 2021, arXiv 2009.08576) and "Sanity-checking pruning
methods" (Su et al. 2020, arXiv 2009.11094). Scoring knows nothing of them: `Control` stands around
its three ends, the score and the batches that go in and the masks that come out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seven_bench.pruning import PATTERNS, Counts, MaskSet, Observation, Params, Score, make_masks
from seven_bench.pruning.units import Structure

#: A weight's place in a stack of layers: `encoder.layer.` `3` `.output.dense.weight`.
LAYER = re.compile(r"(?P<stack>(?:.*\.)?(?:layers?|blocks)\.)(?P<layer>\d+)(?P<part>\..+)")
LABELS = ("labels", "start_positions", "end_positions")
EXCHANGED = ("shuffle", "quota_swap")  # the method's layer counts, in places that are not its own


@dataclass(frozen=True)
class Control:
    """What takes the place of a method's score, batches, masks or weights; `none` changes nothing.

    Args:
        name: of `conf/control`.
        seed: of what is drawn at random.
        stacked: names of weights that hold query, key and value: three layers each.
    """

    name: str = "none"
    seed: int = 0
    stacked: Collection[str] = ()

    def score(self, score: Score) -> Score:
        """The score to prune by."""
        match self.name:
            case "invert":
                return Inverted(score)
            case "quota_swap_reverse":
                return MagnitudeQuotas(score, self.stacked)
            case _:
                return score

    def batches(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The batches to score on."""
        return corrupted(batches, self.seed) if self.name == "corrupt_labels" else batches

    def start(self, params: Params) -> Params:
        """Copies of the weights before scoring, where `masks` puts them back."""
        if self.name not in (*EXCHANGED, "permute_layers"):
            return {}
        return {name: p.detach().clone() for name, p in params.items()}

    def masks(
        self, masks: MaskSet, params: Params, start: Params, pattern: str | Structure
    ) -> MaskSet:
        """The masks to train with; weights are put back where they are others.

        Args:
            masks: those of the method, applied already.
            params: the model's prunable weights, written to.
            start: what `start` gave.
            pattern: of `PATTERNS`, or a model's structure; its units stay whole.
        """
        for name, weight in start.items():
            params[name].data.copy_(weight)
        if self.name in EXCHANGED:
            masks = exchanged(masks, self.name, start, pattern, self.seed, self.stacked)
        return masks

    def weights(self, params: Params, redraw: Callable[[], None]) -> None:
        """Changes the weights to train from, which are whole.

        Args:
            params: the model's prunable weights, written to.
            redraw: gives the whole model new random weights.
        """
        if self.name == "reinit":
            torch.manual_seed(self.seed)
            redraw()
        elif self.name == "permute_layers":
            for name, weight in permuted(params, self.seed).items():
                params[name].data.copy_(weight)


class Altered(Score):
    """A score that observes as another does; what it says of the weights is altered."""

    def __init__(self, score: Score) -> None:
        self.inner = score
        self.needs, self.compared = score.needs, score.compared  # type: ignore[misc]
        self.linearisation = score.linearisation

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.inner.reset(params, generator)

    def observe(self, seen: Observation) -> None:
        self.inner.observe(seen)

    def update_weights(self, params: Params, masks: Params, new_masks: Params) -> Params | None:
        return self.inner.update_weights(params, masks, new_masks)

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(state)


class Inverted(Altered):
    """The negated score: what the method would remove first is kept."""

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: -s for name, s in self.inner.scores(params, masks).items()}


class MagnitudeQuotas(Altered):
    """The method's ranking within each layer, with magnitude's layer counts.

    In each layer the method's best living weight gets the largest |w|, the next the next, so that
    any distribution spreads the count as it would over magnitudes.
    """

    def __init__(self, score: Score, stacked: Collection[str] = ()) -> None:
        super().__init__(score)
        self.stacked = stacked

    def scores(self, params: Params, masks: Params) -> Params:
        whole = self.inner.scores(params, masks)
        sizes = {name: params[name].detach().float().abs() for name in whole}
        scores, sizes, living = (as_layers(t, self.stacked) for t in (whole, sizes, masks))
        swapped = {}
        for name, score in scores.items():
            ranked = score.where(living[name], float("-inf")).reshape(-1)
            best_first = ranked.argsort(descending=True, stable=True)
            largest_first = sizes[name].reshape(-1).sort(descending=True).values
            ranks = torch.empty_like(largest_first).scatter_(0, best_first, largest_first)
            swapped[name] = ranks.view_as(score)
        return as_weights(swapped, self.stacked)


def as_layers(tensors: Params, stacked: Collection[str]) -> Params:
    """Weights as layers: each stacked one as its three thirds, query, key and value."""
    layers: Params = {}
    for name, tensor in tensors.items():
        thirds = tensor.chunk(3) if name in stacked else ()
        layers.update({f"{name}/{part}": third for part, third in zip("qkv", thirds, strict=False)})
        if not thirds:
            layers[name] = tensor
    return layers


def as_weights(layers: Params, stacked: Collection[str]) -> Params:
    """What `as_layers` took apart, put together again."""
    whole: Params = {}
    for name, tensor in layers.items():
        weight = name.rpartition("/")[0]
        if weight not in stacked:
            whole[name] = tensor
        elif weight not in whole:
            whole[weight] = torch.cat([layers[f"{weight}/{part}"] for part in "qkv"])
    return whole


def permuted(params: Params, seed: int) -> Params:
    """The weights with those of whole layers in each other's places, one order a stack of layers;
    what is in no layer stays.

    Raises: ValueError where the layers of a stack are not alike.
    """
    stacks: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, weight in params.items():
        if found := LAYER.match(name):
            layers = stacks.setdefault(found["stack"], {})
            layers.setdefault(int(found["layer"]), {})[found["part"]] = weight.detach()
    generator = torch.Generator().manual_seed(seed)
    moved: Params = {}
    for stack, layers in stacks.items():
        shapes = [{part: w.shape for part, w in layer.items()} for layer in layers.values()]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"control=permute_layers: layers of {stack} are not alike")
        order = torch.randperm(len(layers), generator=generator).tolist()
        numbers = sorted(layers)
        for here, there in zip(numbers, order, strict=True):
            source = layers[numbers[there]]
            moved |= {f"{stack}{here}{part}": w.clone() for part, w in source.items()}
    return moved


def corrupted(batches: Iterable[dict[str, Any]], seed: int) -> Iterator[dict[str, Any]]:
    """The batches with their labels permuted among each batch's examples.

    Raises: ValueError when a batch has no labels.
    """
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        names = [name for name in LABELS if name in batch]
        if not names:
            raise ValueError(f"control=corrupt_labels: batches have no {', '.join(LABELS)}")
        order = torch.randperm(len(batch[names[0]]), generator=generator)
        yield {**batch, **{name: batch[name][order.to(batch[name].device)] for name in names}}


def exchanged(
    masks: MaskSet,
    control: str,
    weights: Params,
    pattern: str | Structure,
    seed: int,
    stacked: Collection[str] = (),
) -> MaskSet:
    """Masks with the same layer counts whose places are no longer the method's.

    Args:
        masks: the method's.
        control: `shuffle` (places at random), `quota_swap` (by |w|); others change nothing.
        weights: the weights at the start.
        pattern: of `PATTERNS`, or a model's structure; its units stay whole.
        seed: of the random places.
        stacked: names of weights that hold query, key and value: three layers each, where units
            of the pattern do not lie across.
    """
    if control == "shuffle":
        generator = torch.Generator().manual_seed(seed)
        scores = {
            name: torch.rand(mask.shape, generator=generator).to(mask.device)
            for name, mask in masks.items()
        }
    elif control == "quota_swap":
        scores = {name: weights[name].detach().float().abs() for name in masks}
    else:
        return masks
    if isinstance(pattern, Structure):
        alive = pattern.living_units(dict(masks))
        sizes = pattern.sizes({name: tuple(mask.shape) for name, mask in masks.items()})
        kept = {name: int(alive[name].count_nonzero()) * size for name, size in sizes.items()}
        return make_masks(scores, MaskSet.ones(masks), Counts(kept), pattern)
    rows = PATTERNS[pattern].rows
    stacked = [name for name in stacked if masks[name].shape[0] % (3 * rows) == 0]
    layers, scores = MaskSet(as_layers(masks, stacked)), as_layers(scores, stacked)
    counts = Counts({name: int(mask.count_nonzero()) for name, mask in layers.items()})
    chosen = make_masks(scores, MaskSet.ones(layers), counts, pattern)
    return MaskSet(as_weights(chosen, stacked))
