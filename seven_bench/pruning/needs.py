"""What a score may need, said once: a row a need. Imports no torch.

Settings, the list of methods and the bill read this table; `seven_bench.pruning.suppliers` has a
supplier for each row but `weights`. A new need is one row here and one supplier there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """One thing that a score looks at.

    `words` say what it is. Supplying it for one example takes `passes` example equivalents (a
    forward pass is 1, a gradient 3), `passes_per_block` more for each block of the model, and,
    where `measured`, what its supplier is seen to take. `sees_labels`: labels enter it. `one_shot`:
    the batches are gone over more than once, so that it is scored at once or not at all.
    `under_training`: an optimizer step shows it too. `given`: masks that were found elsewhere, at
    one sparsity: they are taken before training alone, and rank no weights.
    """

    words: str
    passes: float = 0.0
    passes_per_block: float = 0.0
    measured: bool = False
    sees_labels: bool = False
    one_shot: bool = False
    under_training: bool = False
    given: bool = False


NEEDS = {
    "weights": Need("the weights alone", under_training=True),
    "gradients": Need(
        "gradients of the loss, one batch or optimizer step at a time",
        passes=3, sees_labels=True, under_training=True,
    ),
    "hessian_gradient": Need(
        "the Hessian times the gradient over all calibration batches",
        passes=3, measured=True, sees_labels=True, one_shot=True,
    ),
    "example_squares": Need(
        "the squared gradient of each example by itself", passes=3, sees_labels=True
    ),
    "activations": Need(
        "the inputs of each layer, once the layers before it are pruned",
        passes_per_block=1, one_shot=True,
    ),
    "grams": Need(  # X'X: for d, d, d, d and 4d inputs 21 d^2, where the block itself takes 12 d^2
        "the products of each layer's inputs, X'X, once the layers before it are pruned",
        passes=1.75, passes_per_block=1, one_shot=True,
    ),
    "given_masks": Need("the masks of another run, or of a file", given=True),
    "linear_gradient": Need("the flow through the linearised network, in float64", passes=3),
}  # fmt: skip
