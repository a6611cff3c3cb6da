"""A finished run's model, taken out: written, checked against the run's own logits, timed."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor, nn

from seven_bench.data.making import make_data
from seven_bench.export.csr import (
    choose,
    count_forms,
    load_sparse,
    make_onednn,
    make_sparse,
    save_sparse,
    stored_forms,
    tell_choices,
)
from seven_bench.export.forms import OneDnnLinear, has_onednn
from seven_bench.export.hf import Result, open_hf, save_hf
from seven_bench.export.onnx import run_onnx, save_onnx
from seven_bench.export.semi_structured import DTYPE, check_semi_structured, make_semi_structured
from seven_bench.export.smaller import (
    load_smaller,
    make_smaller,
    run_program,
    save_ordinary,
    save_program,
    save_smaller,
    units_left,
)
from seven_bench.measure.efficiency import describe
from seven_bench.measure.flops import count_macs
from seven_bench.measure.latency import BUSY, USUAL_REPEATS, Seconds, busy_cores, time_in_turns
from seven_bench.pruning import PATTERNS
from seven_bench.pruning.structure import structure_of
from seven_bench.pruning.units import Structure
from seven_bench.results.collect import find_finished
from seven_bench.settings.building import build
from seven_bench.settings.checks import stored
from seven_bench.settings.identity import threads
from seven_bench.store.files import (
    CSR,
    HF,
    LOCK,
    ONNX,
    ORDINARY,
    PACKED,
    PROGRAM,
    RECORD,
    SMALLER,
)
from seven_bench.store.finished import FinishedRun
from seven_bench.store.integrity import find_damage
from seven_bench.store.packed import load_packed, save_packed
from seven_bench.store.record import read_record, write_json, write_record
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import recipe_of
from seven_bench.training.module import Batch, TaskModule
from seven_bench.training.start import finished_model

NAMES = {"packed": PACKED, "csr": CSR, "onnx": ONNX, "smaller": SMALLER}
TOLERANCE = {  # of the logits' largest size
    "packed": 0.0, "csr": 1e-4, "onnx": 1e-4, "nm": 5e-2, "smaller": 1e-5, "hf": 0.0,
}  # fmt: skip
LATENCY = "latency"  # no file: what is there is timed
REPEATS = 31  # of what is timed for itself
Ways = dict[str, Callable[[], Any]]  # what is timed in turns, by form


@dataclass(frozen=True)
class Exported:
    """What was made of a run: where, how far its logits are off, seconds by batch size and form,
    MACs of one example where they are others; how its layers were measured, one by one, and by
    form of the model what they are.
    """

    run_id: str
    target: str
    path: Path | None
    bytes: int | None
    difference: float
    seconds: dict[int, dict[str, Seconds]] = field(default_factory=dict)
    remark: str = ""
    macs: int | None = None
    layers: list[dict[str, Any]] | None = None
    counts: dict[str, str] = field(default_factory=dict)


def _answer(module: TaskModule, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return module.logits(module.model, batch)


class Loaded:
    """A finished run with its model in memory, on the CPU, in evaluation mode.

    Raises: ValueError when its files are damaged.
    """

    def __init__(self, run: FinishedRun, data_root: str | None = None) -> None:
        self.folder, self.sealed, self.record = run.folder, run.sealed, run.record
        self.run_id: str = run.record["run_id"]
        self.settings = stored(run.folder)
        if data_root is not None:
            self.settings = self.settings.changed(data_root=data_root)
        if (damage := find_damage(run.folder, run.record, weights=True)) is not None:
            raise ValueError(damage)
        self.threads = min(threads(self.settings), os.cpu_count() or 1)
        reset_process(self.settings.seed, self.threads, self.settings.trainer.deterministic)
        self.masks, self.state = run.masks(), run.weights()
        self.module = self._module(run)
        self.data = make_data(self.settings, self.module.recipe.batch_size)
        self.data.setup()

    def _module(self, run: FinishedRun) -> TaskModule:
        model = finished_model(self.settings, run)
        module: TaskModule = build(
            self.settings.task.module, model=model, recipe=recipe_of(self.settings)
        )
        return module.eval()

    @property
    def pruned(self) -> list[str]:
        """Names of the weights that have lost something."""
        return [name for name, mask in self.masks.items() if not bool(mask.all())]

    def logits(self, batch: Batch) -> Tensor:
        return _answer(self.module, batch)


def export_run(
    finished: FinishedRun, target: str, batches: Sequence[int], data_root: str | None = None
) -> Exported:
    """Exports a run's model, checks it, times it, and adds what was measured to its record.

    Raises: ValueError when it cannot be done, or logits differ.
    """
    run = Loaded(finished, data_root)
    makers: dict[str, Callable[[Loaded, Sequence[int]], Exported]] = {
        "packed": _packed, "csr": _csr, "nm": _semi_structured, "onnx": _onnx,
        "smaller": _smaller, LATENCY: _latency, "hf": _hf,
    }  # fmt: skip
    done = makers[target](run, batches)
    if target != "hf":  # nothing of it is measured
        _remember(run, done)
    return done


def _check(target: str, found: Tensor, wanted: Tensor, path: Path | None) -> float:
    """The largest difference of the logits; above the tolerance the file goes."""
    difference = float((found.float().cpu() - wanted).abs().max())
    if not difference <= TOLERANCE[target] * max(1.0, float(wanted.abs().max())):
        if path is not None:
            path.unlink(missing_ok=True)
        raise ValueError(f"{target}: logits differ by {difference:.3g}: not written")
    return difference


def _packed(run: Loaded, batches: Sequence[int]) -> Exported:
    path = save_packed(run.state, run.masks, run.folder / NAMES["packed"])
    batch = run.data.example_batch(max(batches))
    wanted = run.logits(batch)
    state, _ = load_packed(path)
    run.module.model.load_state_dict(state, strict=True)
    difference = _check("packed", run.logits(batch), wanted, path)
    return Exported(run.run_id, "packed", path, path.stat().st_size, difference)


def _csr(run: Loaded, batches: Sequence[int]) -> Exported:
    """Layers are chosen at the largest batch; a whole that is no faster there stays dense."""
    largest = run.data.example_batch(max(batches))
    remark = _warn_if_busy()
    choices = choose(run.module.model, run.pruned, lambda: run.logits(largest))
    chosen = [choice for choice in choices if choice.faster]
    while True:
        sparse = copy.deepcopy(run.module)
        path = save_sparse(make_sparse(sparse.model, chosen), run.folder / NAMES["csr"])
        loaded = copy.deepcopy(run.module)
        load_sparse(loaded.model, path)
        difference = _check("csr", _answer(loaded, largest), run.logits(largest), path)
        forms = {"dense": run.module, "csr": loaded}
        if has_onednn():
            forms[OneDnnLinear.form] = copy.deepcopy(run.module)
            make_onednn(forms[OneDnnLinear.form].model)
        seconds = _time(run, batches, partial(_in_turn, forms))
        at_largest = seconds[max(batches)]
        if not chosen or at_largest["csr"].median < at_largest["dense"].median:
            break
        chosen = []
    counts = Counter(choice.taken for choice in chosen)
    told = f"{len(chosen)} of {len(choices)} layers changed"
    if chosen:  # of a layer, from the nearest quartiles to the farthest
        words = ", ".join(f"{count} {form}" for form, count in counts.most_common())
        least = min(choice.dense.low / choice.best.high for choice in chosen)
        most = max(choice.dense.high / choice.best.low for choice in chosen)
        told += f" ({words}), each {least:.2f} to {most:.2f} times as fast"
    return Exported(
        run.run_id, "csr", path, path.stat().st_size, difference, seconds,
        f"{told}; {remark}" if remark else told,
        layers=tell_choices(choices, bool(chosen)), counts={"csr": count_forms(loaded.model)},
    )  # fmt: skip


def _semi_structured(run: Loaded, batches: Sequence[int]) -> Exported:
    check_semi_structured(run.module.model, run.pruned)
    remark = _warn_if_busy()
    device = torch.device("cuda")
    largest = run.data.example_batch(max(batches))
    wanted = run.logits(largest)
    dense = copy.deepcopy(run.module).to(device, DTYPE)
    sparse = copy.deepcopy(run.module)
    make_semi_structured(sparse.model, run.pruned)

    def answer(module: TaskModule, batch: Batch) -> Tensor:
        moved = move_data_to_device(batch, device)
        cast = {n: v.to(DTYPE) if _is_float(v) else v for n, v in moved.items()}
        return _answer(module, cast)

    difference = _check("nm", answer(sparse, largest), wanted, None)
    ways = partial(_in_turn, {"dense": dense, "nm": sparse}, answer=answer)
    seconds = _time(run, batches, ways)
    return Exported(run.run_id, "nm", None, None, difference, seconds, remark)


def _is_float(value: Any) -> bool:
    return torch.is_tensor(value) and value.is_floating_point()


def _onnx(run: Loaded, batches: Sequence[int]) -> Exported:
    remark = _warn_if_busy()
    largest = run.data.example_batch(max(*batches, 2))
    path = save_onnx(run.module, largest, run.folder / NAMES["onnx"])
    found = run_onnx(path, largest, run.threads)()
    difference = _check("onnx", found, run.logits(largest), path)

    def ways(batch: Batch) -> Ways:
        return {"dense": partial(run.logits, batch), "onnx": run_onnx(path, batch, run.threads)}

    seconds = _time(run, batches, ways)
    return Exported(run.run_id, "onnx", path, path.stat().st_size, difference, seconds, remark)


def _time(
    run: Loaded, batches: Sequence[int], ways: Callable[[Batch], Ways], repeats: int = USUAL_REPEATS
) -> dict[int, dict[str, Seconds]]:
    """What the forms of a model take to answer each size of batch, in turns."""
    return {size: time_in_turns(ways(run.data.example_batch(size)), repeats) for size in batches}


def _in_turn(
    forms: Mapping[str, TaskModule],
    batch: Batch,
    answer: Callable[[TaskModule, Batch], Tensor] = _answer,
) -> Ways:
    return {form: partial(answer, module, batch) for form, module in forms.items()}


def _smaller(run: Loaded, batches: Sequence[int]) -> Exported:
    """The file, the program and, where a config can say its shape, a folder for transformers."""
    structure = _structure(run)
    largest = run.data.example_batch(max(*batches, 2))
    wanted, remark = run.logits(largest), _warn_if_busy()
    cut = copy.deepcopy(run.module)
    left = units_left(structure, run.masks)
    counts = make_smaller(cut, structure, left, run.data.example_batch(2))
    plain = run.settings.model.build.plain()
    path = save_smaller(cut.model, counts, plain, run.folder / NAMES["smaller"])
    small = copy.deepcopy(run.module)
    load_smaller(path, small.model)
    difference = _check("smaller", _answer(small, largest), wanted, path)

    program = run.folder / PROGRAM
    is_open = save_program(small, largest, program)
    with torch.no_grad():
        found = run_program(program, largest)()
    difference = max(difference, _check("smaller", found, wanted, program))
    shutil.rmtree(run.folder / ORDINARY, ignore_errors=True)
    reason = save_ordinary(small.model, counts, run.folder / ORDINARY)
    told = [
        "" if is_open else f"the program takes {len(wanted)} examples at a time",
        reason and f"no folder for transformers: {reason}",
        remark,
    ]
    one = run.data.example_batch(1)
    macs = count_macs(lambda: small.logits(small.model, one), {}, {}).dense
    seconds = _time(run, batches, partial(_in_turn, {"dense": run.module, "smaller": small}))
    return Exported(
        run.run_id, "smaller", path, path.stat().st_size, difference, seconds,
        "; ".join(filter(None, told)), macs,
    )  # fmt: skip


def _structure(run: Loaded) -> Structure:
    pattern = run.settings.pattern or "unstructured"
    if not PATTERNS[pattern].coupled:
        kinds = ", ".join(name for name, form in PATTERNS.items() if form.coupled)
        raise ValueError(f"smaller: pattern={pattern} removes no whole units; these do: {kinds}")
    return structure_of(run.module.model, pattern)


def _hf(run: Loaded, batches: Sequence[int]) -> Exported:
    """The folder is there when its library has opened it, and its logits are the run's."""
    batch = run.data.example_batch(max(batches))
    wanted, folder = run.logits(batch), run.folder / HF
    with tempfile.TemporaryDirectory(prefix=".hf", dir=run.folder) as place:
        draft = Path(place, HF)
        draft.mkdir()
        result = Result(run.record, _seeds(run))
        save_hf(run.module.model, run.settings, run.data, result, draft)
        opened = copy.deepcopy(run.module)
        opened.model = open_hf(run.module.model, draft)
        difference = _check("hf", _answer(opened, batch), wanted, None)
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return Exported(run.run_id, "hf", folder, size, difference, remark=f"in {folder}")


def _seeds(run: Loaded) -> dict[int, float]:
    """The metric of the finished runs of its cell that lie beside it, itself included, by seed."""
    beside, _ = find_finished([run.folder.parent], not run.sealed)
    own = [one.record for one in beside if one.record["cell_id"] == run.record["cell_id"]]
    return {record["seed"]: float(record["metric"]["value"]) for record in own}


def _latency(run: Loaded, batches: Sequence[int]) -> Exported:
    """Every form of the run's model that lies in its folder and runs on a CPU, in turns."""
    remark, forms = _warn_if_busy(), {"dense": run.module}
    for form, load in _forms_there(run.folder).items():
        forms[form] = copy.deepcopy(run.module)
        load(forms[form].model)
    largest, difference = run.data.example_batch(max(batches)), 0.0
    wanted = run.logits(largest)
    for form, module in forms.items():
        tolerance = "smaller" if form == "smaller" else "csr"
        difference = max(difference, _check(tolerance, _answer(module, largest), wanted, None))
    seconds = _time(run, batches, partial(_in_turn, forms), REPEATS)
    counts = {form: count_forms(module.model) for form, module in forms.items()}
    return Exported(run.run_id, LATENCY, None, None, difference, seconds, remark, counts=counts)


def _forms_there(folder: Path) -> dict[str, Callable[[nn.Module], Any]]:
    """What puts the plain model into each form. A file whose layers take several forms is there
    once more for each of them, the layers in the others dense.
    """
    there: dict[str, Callable[[nn.Module], Any]] = {}
    if has_onednn():
        there[OneDnnLinear.form] = make_onednn
    if (path := folder / NAMES["csr"]).is_file():
        there["csr"] = partial(load_sparse, path=path)
        several = stored_forms(path)
        for form in several if len(several) > 1 else ():
            there[f"{form}_alone"] = partial(load_sparse, path=path, forms=(form,))
    if (small := folder / NAMES["smaller"]).is_file():
        there["smaller"] = partial(load_smaller, small)
    return there


def _warn_if_busy() -> str:
    busy = busy_cores()
    if busy is None or busy < BUSY:
        return ""
    remark = f"{busy:.1f} cores were busy with other work"
    print(f"export: {remark}: times are not to be trusted", file=sys.stderr)
    return remark


def _remember(run: Loaded, done: Exported) -> None:
    """Adds what was measured to the record's `efficiency`, unless the run is being worked on."""
    try:
        with FileLock(run.folder / LOCK, timeout=0):
            record = read_record(run.folder / RECORD, unsealed=not run.sealed)
            found: dict[str, Any] = dict(record["efficiency"] or {})
            if done.bytes is not None:
                found["bytes"] = {**found.get("bytes", {}), done.target: done.bytes}
            if done.macs is not None:
                found["macs"] = {**found.get("macs", {}), done.target: done.macs}
            if done.layers is not None:
                found["layers"] = done.layers
            if done.seconds:
                # what was not timed in turns with these is no measure of them
                before = {} if done.target == LATENCY else dict(found.get("latency") or {})
                found["latency"] = before | _latency_part(run, done)
            write = write_record if run.sealed else write_json  # no seal is put on a stranger's
            write(run.folder / RECORD, {**record, "efficiency": found})
    except Timeout as error:
        raise ValueError("is being worked on by another process") from error


def _latency_part(run: Loaded, done: Exported) -> dict[str, Any]:
    """Medians in seconds by form and batch, with the quartiles around them (`_low`, `_high`)."""
    part: dict[str, Any] = {
        "threads": run.threads,
        "input": describe(run.data.example_batch(1)),
    }
    for size, ways in done.seconds.items():
        for form, seconds in ways.items():
            part[f"{form}_batch{size}"] = seconds.median
            part[f"{form}_batch{size}_low"] = seconds.low
            part[f"{form}_batch{size}_high"] = seconds.high
    part |= {f"{form}_layers": words for form, words in done.counts.items()}
    if done.remark:
        part[f"{done.target}_remark"] = done.remark
    return part


def print_table(done: Sequence[Exported]) -> None:
    """What was exported, a row a run."""
    from rich.table import Table

    from seven_bench.terminal import console as make_console

    sizes = sorted({size for one in done for size in one.seconds})
    table = Table(title=f"exported to {done[0].target}")
    for name in ("run", "bytes", "largest difference of logits"):
        table.add_column(name, overflow="fold")
    for size in sizes:
        table.add_column(f"batch {size}: median, quartiles, dense / it", justify="right")
    table.add_column("remark", overflow="fold")
    for one in done:
        times = [_say(one.seconds[size]) for size in sizes]
        count = "" if one.bytes is None else f"{one.bytes:,}"
        table.add_row(one.run_id, count, f"{one.difference:.2g}", *times, one.remark)
    make_console().print(table)


def print_latencies(done: Sequence[Exported]) -> None:
    """What was timed: a row for each form of a run at a batch size."""
    from rich.table import Table

    from seven_bench.terminal import console as make_console

    table = Table(title="a forward pass on the CPU: median of the repeats, quartiles")
    for name, justify in (
        ("run", "left"), ("form", "left"), ("batch", "right"), ("ms", "right"),
        ("quartiles", "right"), ("dense / it", "right"), ("linear layers", "left"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for one in done:
        named = one.run_id
        for size, forms in one.seconds.items():
            for form, s in forms.items():
                table.add_row(
                    named, form, str(size), f"{s.median * 1e3:.2f}",
                    f"{s.low * 1e3:.2f} to {s.high * 1e3:.2f}",
                    f"{forms['dense'].median / s.median:.2f}x", one.counts.get(form, ""),
                )  # fmt: skip
                named = ""
        table.add_section()
    console = make_console()
    console.print(table)
    for one in done:
        if one.remark:
            console.print(f"{one.run_id}: {one.remark}")


def _say(seconds: dict[str, Seconds]) -> str:
    dense = seconds["dense"].median
    return "\n".join(
        f"{form} {s.median * 1e3:.2f} ms ({s.low * 1e3:.2f} to {s.high * 1e3:.2f})"
        + ("" if form == "dense" else f", {dense / s.median:.2f}x")
        for form, s in seconds.items()
    )
