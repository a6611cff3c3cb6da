"""A model without its removed heads and neurons: plain modules of smaller weights.

torch-pruning (Fang et al. 2023, arXiv 2301.12900) traces the model and says what depends on a
unit's rows; that must be what the structure table says, and it cuts the weights. Opening the file
needs neither: a family's table and the number of units that each layer kept are enough.
"""

from __future__ import annotations

import copy
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seven_bench.errors import install_line
from seven_bench.export.answer import Answer, input_names
from seven_bench.pruning.structure import Coupling, attribute, coupled_layers
from seven_bench.pruning.units import Group, Structure
from seven_bench.settings.building import build
from seven_bench.settings.node import Target, read
from seven_bench.store.atomic import replacing
from seven_bench.store.tensors import read_tensors, write_tensors
from seven_bench.training.module import Batch, TaskModule

FORMAT = "seven_bench.smaller/1"


def units_left(structure: Structure, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Which units the smaller model has, bool [units], by group: those that live, and the first of
    a layer that has lost all: a module has at least one, whose columns are zeros then.
    """
    left = structure.living_units(masks)
    for alive in left.values():
        if not bool(alive.any()):
            alive[0] = True
    return left


def make_smaller(
    module: TaskModule, structure: Structure, left: Mapping[str, Tensor], batch: Batch
) -> dict[str, int]:
    """Cuts everything but the units `left` out of the module's model, in place.

    Args:
        module: its weights masked, on a CPU.
        structure: of its model.
        left: what `units_left` gave.
        batch: of at least two examples, to trace the model with.

    Returns: how many units each group has left.

    Raises: ValueError without torch-pruning, or where it finds that more, or less, depends on a
        unit than the structure table says.
    """
    if find_spec("torch_pruning") is None:
        raise ValueError(f"torch_pruning is not installed: {install_line('smaller')}")
    import torch_pruning

    model = module.model
    names = {layer: name for name, layer in model.named_modules()}
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # of parameters that belong to no layer, as position tables
        graph = torch_pruning.DependencyGraph().build_dependency(
            model, example_inputs=batch, forward_fn=lambda _, traced: module.logits(model, traced)
        )
        for group in structure.groups:
            if bool(left[group.name].all()):
                continue
            wanted = _cuts(group, ~left[group.name], model)
            first = group.members[0].name.removesuffix(".weight")
            found = graph.get_pruning_group(
                model.get_submodule(first),
                torch_pruning.prune_linear_out_channels,
                idxs=wanted[first, False],
            )
            _compare(group, wanted, _linear_cuts(found, names))
            found.prune()
    counts = {name: int(alive.count_nonzero()) for name, alive in left.items()}
    for layer, coupling, units, kept in _kept(model, counts):
        _tell(model, layer, coupling, units, kept)
    return counts


def _cuts(group: Group, gone: Tensor, model: nn.Module) -> dict[tuple[str, bool], list[int]]:
    """The places that go, by layer and whether they are columns, as the structure table says."""
    cuts = {}
    for member in group.members:
        weight = model.get_parameter(member.name)
        flags = group.over_rows(member, gone, weight.shape[1 if member.columns else 0])
        layer = member.name.removesuffix(".weight")
        cuts[layer, member.columns] = flags.nonzero()[:, 0].tolist()
    return cuts


def _linear_cuts(found: Any, names: Mapping[nn.Module, str]) -> dict[tuple[str, bool], list[int]]:
    """The same of torch-pruning's group; operations without weights are left out."""
    cuts = {}
    for dependency, places in found:
        layer = dependency.target.module
        if any(True for _ in layer.parameters()):
            columns = "in_channels" in dependency.handler.__name__
            cuts[names[layer], columns] = sorted(int(place) for place in places)
    return cuts


def _compare(group: Group, wanted: Mapping[Any, Any], found: Mapping[Any, Any]) -> None:
    if wanted != found:
        odd = [
            layer
            for layer, columns in (*wanted, *found)
            if wanted.get((layer, columns)) != found.get((layer, columns))
        ]
        raise ValueError(f"{odd[0]} depends on {group.name} in another way than the table says")


def _kept(model: nn.Module, counts: Mapping[str, int]) -> list[tuple[str, Coupling, int, int]]:
    """Layer, coupling, units of the plain model, units kept.

    Raises: ValueError on a group that the model does not have, or a number out of range.
    """
    known = {f"{layer}.{c.kind}": (layer, c) for layer, c in coupled_layers(model)}
    found = []
    for name, kept in counts.items():
        if name not in known:
            raise ValueError(f"the model has no {name}")
        layer, coupling = known[name]
        if coupling.heads:
            units = int(attribute(model, f"{layer}.{coupling.heads}"))
        else:
            units = _linear(model, f"{layer}.{coupling.columns}").in_features
        if not isinstance(kept, int) or not kept >= 1:
            raise ValueError(f"{name} cannot keep {kept}")
        found.append((layer, coupling, units, kept))
    return found


def _tell(model: nn.Module, layer: str, coupling: Coupling, units: int, kept: int) -> None:
    """Gives a layer's modules their new numbers."""
    for path, value in (
        *((size, attribute(model, f"{layer}.{size}") * kept // units) for size in coupling.sizes),
        *([(coupling.heads, kept)] if coupling.heads else []),
    ):
        home, _, name = f"{layer}.{path}".rpartition(".")
        setattr(model.get_submodule(home), name, value)


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"{name} is no linear layer")
    return layer


def _shrink(model: nn.Module, counts: Mapping[str, int]) -> None:
    """Gives a plain model's layers the shapes of a smaller one's, with no values yet."""
    for layer, coupling, units, kept in _kept(model, counts):
        if kept > units:
            raise ValueError(f"{layer} has {units} {coupling.kind}s, not {kept}")
        for part in (*coupling.rows, coupling.columns):
            old = _linear(model, f"{layer}.{part}")
            rows, columns = old.out_features, old.in_features
            if part == coupling.columns:
                columns = columns // units * kept
            else:
                rows = rows // units * kept
            bias = old.bias is not None
            made = nn.Linear(columns, rows, bias=bias, device="meta").to_empty(device="cpu")
            home, _, name = f"{layer}.{part}".rpartition(".")
            setattr(model.get_submodule(home), name, made)
        _tell(model, layer, coupling, units, kept)


def save_smaller(
    model: nn.Module,
    counts: Mapping[str, int],
    plain: Mapping[str, Any],
    path: str | os.PathLike[str],
) -> Path:
    """Writes a model that `make_smaller` has been over, atomically.

    The file holds its weights under the plain model's names. Its metadata hold `format`, `units`
    (JSON: how many of each group) and `model` (JSON: how the plain model is built): all that
    `load_smaller` needs, and nothing that is run.
    """
    tensors = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    metadata = {"format": FORMAT, "units": json.dumps(counts), "model": json.dumps(plain)}
    return write_tensors(tensors, path, metadata)


def load_smaller(path: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """The model that `save_smaller` wrote, in evaluation mode.

    Args:
        path: its file.
        model: the plain model, which is changed in place; built as the file says if None, of what
            the installed configuration names.

    Raises: ValueError when the file is not such a file, or another model's.
    """
    with read_tensors(path, FORMAT) as (tensors, metadata):
        counts: dict[str, int] = json.loads(metadata["units"])
        if model is None:
            model = build(read(Target, json.loads(metadata["model"])))
        _shrink(model, counts)
        model.load_state_dict(tensors, strict=True)
    return model.eval()


def save_program(module: TaskModule, batch: Batch, path: str | os.PathLike[str]) -> bool:
    """Writes the module's logits as a `torch.export` program, atomically.

    It takes the tensors of `input_names`, in this order.

    Args:
        module: on a CPU, in evaluation mode.
        batch: of at least two examples, to trace it with.

    Returns: whether the batch's size is open; else it is that of `batch`.
    """
    names = input_names(batch)
    tensors = tuple(batch[name] for name in names)
    answer = Answer(module, batch, names).eval()
    size = torch.export.Dim("batch", min=1, max=4096)

    def exported(shapes: Any) -> Any:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            return torch.export.export(answer, tensors, dynamic_shapes=shapes)

    try:
        program, is_open = exported((({0: size},) * len(names),)), True
    except Exception:  # whatever the tracer finds in a model that fixes its size
        program, is_open = exported(None), False
    archive = io.BytesIO()  # torch looks at the name of a file, and a draft has another
    torch.export.save(program, archive)
    with replacing(Path(path)) as draft:
        draft.write_bytes(archive.getvalue())
    return is_open


def run_program(path: str | os.PathLike[str], batch: Batch) -> Callable[[], Tensor]:
    """A function that answers with the program's logits of a batch, [b, ...]."""
    loaded: Any = torch.export.load(path)
    program = loaded.module()
    tensors = [batch[name] for name in input_names(batch)]
    return lambda: program(*tensors)


def save_ordinary(model: nn.Module, counts: Mapping[str, int], folder: Path) -> str:
    """Writes a folder that transformers' `from_pretrained` opens, where a config can say the shape.

    Returns: an empty text, or why there is no such folder.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "save_pretrained"):
        return f"{type(model).__name__} has no config"
    changed, reason = _ordinary_config(model, counts)
    if reason:
        return reason
    small: Any = type(model)(changed)
    state = model.state_dict()
    wanted = {name: value.shape for name, value in small.state_dict().items()}
    if odd := [name for name, shape in wanted.items() if state[name].shape != shape]:
        return f"{type(config).__name__} cannot say the shape of {odd[0]}"
    small.load_state_dict(state, strict=True)
    small.save_pretrained(folder)
    return ""


def _ordinary_config(model: nn.Module, counts: Mapping[str, int]) -> tuple[Any, str]:
    """The model's config with the numbers of the smaller one, or why it cannot have them."""
    config: Any = copy.deepcopy(model.config)
    widths: dict[str, set[int]] = {}
    for name, kept in counts.items():
        layer, _, kind = name.rpartition(".")
        tower = layer.partition("_model.")[0] if "_model." in layer else ""
        part = getattr(config, f"{tower}_config") if tower else config
        if kind == "neuron":
            widths.setdefault(tower, set()).add(kept)
        elif kept != part.num_attention_heads:  # its width is theirs, with no head_dim to keep it
            return None, f"{type(part).__name__} has no head_dim, so it cannot say {kept} heads"
    for tower, wide in widths.items():
        if len(wide) > 1:
            return None, f"layers keep {min(wide)} to {max(wide)} neurons, a config has one number"
        part = getattr(config, f"{tower}_config") if tower else config
        key = "hidden_dim" if hasattr(part, "hidden_dim") else "intermediate_size"
        setattr(part, key, wide.pop())
    return config, ""
