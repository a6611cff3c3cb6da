"""What was removed of a model, as numbers and as a table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from seven_bench.measure.size import sizes
from seven_bench.pruning import MaskSet
from seven_bench.pruning.prunable import family_of, layer_weights
from seven_bench.pruning.pruner import Method
from seven_bench.pruning.units import Structure


@dataclass(frozen=True)
class Summary:
    """What pruning has made of a model; `print` shows it as a table.

    `sparsity` holds the fractions removed by the set that they are of: "prunable" and "model", and
    of a known family "encoder" and "non_embedding" too. `layers` has the weights kept and all of
    each layer, `left_out` the names of the layers' weights that were not to be pruned.
    """

    method: str
    target: float
    pattern: str
    distribution: str
    sparsity: dict[str, float]
    layers: dict[str, tuple[int, int]]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        kept, total = (sum(column) for column in zip(*self.layers.values(), strict=True))
        title = f"{self.method}: {kept:,} of {total:,} prunable weights kept"
        of = ", ".join(f"{value:.4f} of {name}" for name, value in self.sparsity.items())
        width = max(map(len, self.layers))
        rows = [f"{'layer':{width}}  {'kept':>12}  {'total':>12}  sparsity"]
        rows += [
            f"{name:{width}}  {living:12,}  {size:12,}  {1 - living / size:8.4f}"
            for name, (living, size) in self.layers.items()
        ]
        out = f"left out: {', '.join(self.left_out) or 'nothing'}"
        how = f"pattern {self.pattern}, distribution {self.distribution}"
        return "\n".join((title, f"sparsity: {of}", how, *rows, out))


def summarize(model: nn.Module, masks: MaskSet, method: Method) -> Summary:
    """What `masks` leave of a model."""
    try:
        family_of(model)
    except ValueError:
        removed, every = masks.total - masks.kept, sum(p.numel() for p in model.parameters())
        sparsity = {"prunable": removed / masks.total, "model": removed / every}
        layers = masks.summary()
    else:
        found = sizes(model, masks, method.sparsity)
        sparsity = {name: value for name, value in found["sparsity"].items() if name != "target"}
        layers = found["layers"]
    pattern = method.pattern
    return Summary(
        method=str(method),
        target=method.sparsity,
        pattern=pattern.pattern if isinstance(pattern, Structure) else pattern,
        distribution=method.distribution,
        sparsity=sparsity,
        layers={name: (layer["kept"], layer["total"]) for name, layer in layers.items()},
        left_out=tuple(name for name in layer_weights(model) if name not in masks),
    )
