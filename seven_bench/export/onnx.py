"""A pruned model as an ONNX file: the plain graph, with its zeros written as they are."""

from __future__ import annotations

import logging
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from seven_bench.errors import install_line
from seven_bench.export.answer import Answer, input_names
from seven_bench.store.atomic import replacing
from seven_bench.training.module import Batch, TaskModule


def save_onnx(module: TaskModule, batch: Batch, path: str | os.PathLike[str]) -> Path:
    """Writes the module's model, atomically. The batch's size stays open, its other sizes do not.

    Raises: ValueError without the packages of the extra `onnx`.
    """
    path = Path(path)
    if missing := [
        name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None
    ]:
        raise ValueError(f"{missing[0]} is not installed: {install_line('onnx')}")
    names = input_names(batch)
    tensors = tuple(batch[name] for name in names)
    size = torch.export.Dim("batch", min=1, max=4096)
    open_sizes = ({0: size},) * len(names)
    answer = Answer(module, batch, names).eval()
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                answer, tensors, dynamo=True, input_names=names, output_names=["logits"],
                dynamic_shapes=(open_sizes,), verbose=False,
            )  # fmt: skip
            assert program is not None
            with replacing(path) as draft:
                program.save(str(draft), external_data=False)
    finally:
        quiet.setLevel(level)
    return path


def run_onnx(path: str | os.PathLike[str], batch: Batch, threads: int) -> Any:
    """A function that answers with the file's logits of a batch, float32 [b, ...]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fed = {name: batch[name].numpy() for name in (i.name for i in session.get_inputs())}
    return lambda: torch.from_numpy(session.run(None, fed)[0])
