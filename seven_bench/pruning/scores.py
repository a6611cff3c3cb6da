"""The interface of a score, and what it is shown.

A score gives one number per prunable weight; higher is kept. It knows nothing of schedules,
thresholds, patterns, trainers, configs or devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from seven_bench.pruning import device
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.units import Structure


@dataclass(frozen=True)
class Observation:
    """What one calibration batch, or one optimizer step, shows.

    `params` and `grads` hold the weights and the gradient of the (mean) loss, `masks` the living
    weights; all are keyed by parameter name and of the parameters' shapes. `step` counts from 0.
    `learning_rate` is that of an optimizer step, `lr_factor` what its schedule multiplies the
    highest one by to get there (1 outside of training). `progress` is the fraction of the pruning
    steps that is done, in [0, 1]. `sparsity` and `pattern` are what the method is to come to, for
    scores whose numbers depend on it.

    `supplied` is the rest, for scores that need it; it is read as an attribute of the need's name.
    `hessian_gradient` is H g with this batch's H and the g of all batches, `example_squares` the
    mean over examples of the squared gradient of each, `activations` the sum over an example's
    tokens of each squared input of a linear layer, [d_in], `grams` that of their products, [d_in,
    d_in], both for a part of the layers at a time, `linear_gradient` the gradient of the linearised
    network's mean output by |w|, float64, `given_masks` another run's masks, or a file's, bool.
    """

    params: Params
    grads: Params
    masks: Params
    step: int
    learning_rate: float | None = None
    lr_factor: float = 1.0
    progress: float = 0.0
    sparsity: float = 0.0
    pattern: str | Structure = "unstructured"
    supplied: Mapping[str, Params] = field(default_factory=dict)

    def __getattr__(self, need: str) -> Params:
        supplied: Mapping[str, Params] = self.__dict__.get("supplied", {})
        if need not in supplied:
            raise AttributeError(f"{need} is not supplied: no need of this score has that name")
        return supplied[need]


ATTENTIONS = ("first_order", "softmax")
BIASES = ("zero", "absolute")


@dataclass(frozen=True)
class Linearisation:
    """What becomes of a Transformer's attention and biases where its weights are |w| and its norms
    and activations pass their input on (the need `linear_gradient`).

    `attention`: "first_order" puts the part of the first order around ones in its place, q plus the
    tokens' mean of k plus that of v; "softmax" leaves it as it is. `biases`: "zero", or "absolute"
    for |b|.

    Raises: ValueError on another choice.
    """

    attention: str = "first_order"
    biases: str = "zero"

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("attention", self.attention, ATTENTIONS), ("biases", self.biases, BIASES)
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"score.{key}={value!r}: allowed are {', '.join(allowed)}")


class Score(Protocol):
    """One method's score. Derive from it for the bookkeeping; `scores` is all that must be written.

    `needs` (rows of `seven_bench.pruning.needs.NEEDS`) is checked against timing and model.
    `compared` says where scores can be held against each other: all over the "network", or within
    an output "row" alone. `state` names the attributes that a checkpoint keeps: each a dict of
    tensors per parameter, or a number. `memory` is what it keeps at most, in bytes a prunable
    weight, its mask and the scores themselves included: what `dry_run` tells. `linearisation` is
    how a `linear_gradient` is taken. What a score must keep to, `seven_bench.pruning.contract`
    checks.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    compared: ClassVar[str] = "network"
    state: ClassVar[tuple[str, ...]] = ()
    memory: int = 17  # PLATON's, the most of those that keep a few numbers a weight
    linearisation: Linearisation = Linearisation()

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        """Starts anew. `generator` is the only source of randomness a score may use."""

    def observe(self, seen: Observation) -> None:
        """Takes in one batch or step. Keeps no reference to what it is shown."""

    def scores(self, params: Params, masks: Params) -> Params:
        """The scores, float32, of the parameters' shapes. Higher is kept."""
        ...

    def update_weights(self, params: Params, masks: Params, new_masks: Params) -> Params | None:
        """The weights to go on with, float32, one for each of `params`, or None: they stay.

        Called at every update, between selection and masking. Second-order methods move what stays
        so as to make up for what goes. Of what is removed the masks make 0, whatever is given.

        Args:
            params: what `scores` was given.
            masks, new_masks: what lived so far, and what is to live from here on.
        """
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors alone, so that a checkpoint of it loads with `weights_only`."""
        flat: dict[str, Tensor] = {}
        for name in self.state:
            value = getattr(self, name)
            if isinstance(value, dict):
                flat.update({f"{name}/{key}": tensor for key, tensor in value.items()})
            else:
                flat[name] = torch.tensor(
                    value, dtype=torch.float64 if value != int(value) else None
                )
        return flat

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores `state_dict`. Raises KeyError when an entry is missing."""
        for name in self.state:
            if isinstance(getattr(self, name), dict):
                prefix = f"{name}/"
                tensors = {
                    key.removeprefix(prefix): tensor
                    for key, tensor in state.items()
                    if key.startswith(prefix)
                }
                setattr(self, name, copied(tensors))
            else:
                setattr(self, name, state[name].item())


def zeros(params: Params) -> Params:
    """A contiguous float32 accumulator per parameter, whatever its own type and layout."""
    made = {
        name: torch.zeros(p.shape, dtype=torch.float32, device=p.device)
        for name, p in params.items()
    }
    return device.side_by_side(made)


def copied(tensors: Params) -> Params:
    """Copies, side by side as `zeros` makes them where they are of one type."""
    if len({tensor.dtype for tensor in tensors.values()}) == 1:
        return device.side_by_side(tensors)
    return {name: tensor.clone() for name, tensor in tensors.items()}
