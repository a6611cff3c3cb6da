"""What a pruned `nn.Linear` may become on a CPU; each answers as the layer does, in another order
of sums.

* `csr`: its zeros skipped one by one.
* `compacted`: rows and columns of zeros cut, the rest dense.
* `onednn`: whole and dense, multiplied by oneDNN in place of the BLAS that torch calls. It owes
  nothing to zeros; without it a slow BLAS would make sparse layers look better than they are.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNKS = (32, 64, 128, 256)  # rows at a time: what a CSR layer reads and writes stays in cache


class SparseLinear(nn.Module):
    """`nn.Linear` with its weight in CSR: y = x W^T + b over the kept weights alone.

    Args:
        weight: [out, in], float32 on a CPU; its zeros are dropped.
        bias: [out] or None.
        chunk: rows of x that are multiplied at a time.
    """

    form = "csr"

    def __init__(self, weight: Tensor, bias: Tensor | None, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.weight = to_csr(weight)  # no buffer: a state dict of it would not be the plain one's
        self.bias = bias

    def forward(self, value: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        rows = value.reshape(-1, value.shape[-1])
        found = rows.new_empty(len(rows), self.weight.shape[0])
        parts = (torch.split(rows, self.chunk), torch.split(found, self.chunk))
        for source, target in zip(*parts, strict=True):
            target.copy_((self.weight @ source.t()).t())
        if self.bias is not None:
            found.add_(self.bias)
        return found.view(*value.shape[:-1], found.shape[1])


class CompactLinear(nn.Module):
    """`nn.Linear` without its rows and columns of zeros: what is left is multiplied dense.

    An output whose row is all zero is its bias, whatever comes in; an input whose column is all
    zero is not read.

    Args:
        weight: [out, in], float32 on a CPU.
        bias: [out] or None.
    """

    form = "compacted"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        lives = weight.detach() != 0
        out, columns = lives.any(1), lives.any(0)
        self.shape = tuple(weight.shape)
        self.rows, self.columns = out.nonzero().flatten(), columns.nonzero().flatten()
        self.weight = weight.detach()[out][:, columns].contiguous()  # no buffer, as above
        self.bias = bias
        self.own_bias = None if bias is None else bias[self.rows]
        self.rest = weight.new_zeros(len(out)) if bias is None else bias

    def forward(self, value: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        given = value.reshape(-1, value.shape[-1])
        if len(self.columns) < given.shape[1]:
            given = given.index_select(1, self.columns)
        found = multiply(given, self.weight, self.own_bias)
        if len(self.rows) < len(self.rest):
            found = self.rest.repeat(len(given), 1).index_copy_(1, self.rows, found)
        return found.view(*value.shape[:-1], found.shape[1])


class OneDnnLinear(nn.Linear):
    """`nn.Linear` multiplied by oneDNN; its state dict is the plain one's."""

    form = "onednn"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        own = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_parameter("bias", own)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return multiply(input, self.weight, self.bias)


def has_onednn() -> bool:
    """Whether torch comes with oneDNN, and with the operator that its own compiler calls."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(there) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def multiply(value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`, by oneDNN where torch has it; float32 on a CPU, nothing for a gradient."""
    if has_onednn() and value.numel() and weight.numel():
        found: Tensor = torch.ops.mkldnn._linear_pointwise(value, weight, bias, "none", [], "")
        return found
    return F.linear(value, weight, bias)


def to_csr(weight: Tensor) -> Tensor:
    """A weight without its zeros, int32 indices: what MKL multiplies without converting."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
        csr = weight.detach().float().cpu().to_sparse_csr()
        parts = (csr.crow_indices().int(), csr.col_indices().int(), csr.values())
        return torch.sparse_csr_tensor(*parts, csr.shape, check_invariants=False)


Form = SparseLinear | CompactLinear | OneDnnLinear


def make_form(form: str, layer: nn.Linear, chunk: int = CHUNKS[-1]) -> Form:
    """A linear layer in another form. Raises ValueError for a form that there is not."""
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    if form == SparseLinear.form:
        return SparseLinear(weight, bias, chunk)
    if form == CompactLinear.form:
        return CompactLinear(weight, bias)
    if form == OneDnnLinear.form:
        return OneDnnLinear(weight, bias)
    raise ValueError(f"a layer in form {form!r}, which this version does not know")


def candidates(layer: nn.Linear, rows: int) -> dict[tuple[str, int], Form]:
    """What is worth measuring of a layer that is fed `rows` rows, by form and chunk.

    CSR in chunks of several sizes; compacted where a row or a column is empty.
    """
    found: dict[tuple[str, int], Form] = {}
    for chunk in [c for c in CHUNKS if c < rows] or [rows]:
        found[SparseLinear.form, chunk] = make_form(SparseLinear.form, layer, chunk)
    lives = layer.weight != 0
    if not (lives.any(0).all() and lives.any(1).all()):
        found[CompactLinear.form, 0] = make_form(CompactLinear.form, layer)
    if has_onednn():
        found[OneDnnLinear.form, 0] = make_form(OneDnnLinear.form, layer)
    return found
