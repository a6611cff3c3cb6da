"""Records made up for tests: one builder for a record, one for a folder of runs."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seven_bench.bits import pack_bits
from seven_bench.store.files import MASKS, RECORD
from seven_bench.store.integrity import fingerprints
from seven_bench.store.masks import FORMAT, PackedMasks
from seven_bench.store.record import write_json, write_record

LAYERS = [
    f"blocks.{block}.{kind}.weight"
    for block in range(3)
    for kind in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
]
WEIGHTS = 64  # in each layer
#: What the suite's records say of how they were trained, in part.
RECIPE = {
    "trainer.max_epochs": 10,
    "trainer.lr": 5e-4,
    "trainer.gradient_clip": 1.0,
    "trainer.threads": 1,
    "task.data.train_examples": None,
}


def make_record(**changes: Any) -> dict[str, Any]:
    """A sound record; `changes` replace fields, with `__` for a dot: `metric__value=0.5`."""
    record: dict[str, Any] = {
        "schema_version": 1,
        "run_id": "",
        "cell_id": "",
        "task": "digits",
        "model": "vit_digits",
        "start": "dense",
        "pruner": "snip",
        "timing": "before",
        "distribution": "global",
        "pattern": "unstructured",
        "control": "none",
        "finetune": "full",
        "recipe": {**RECIPE},
        "method": None,
        "seed": 0,
        "sparsity": {
            "target": 0.9,
            "prunable": None,
            "encoder": 0.9,
            "non_embedding": 0.88,
            "model": 0.86,
        },
        "params": {"prunable": 768, "kept": 77, "model": 900},
        "layers": {},
        "metric": {
            "name": "accuracy",
            "value": 0.96,
            "higher_is_better": True,
            "split": "test",
            "epoch": "best",
        },
        "metrics": {"majority": 0.1, "test_examples": 360, "loss": 0.1},
        "mask_hash": "00ff",
        "cost": {
            "example_equivalents": {
                "scoring": 0,
                "training": 0,
                "rounds": 0,
                "start": 0,
                "total": 5000,
            },
            "seconds": {"scoring": 0.5, "training": 9, "evaluation": 1, "total": 10.5},
            "peak_memory_bytes": None,
        },
        "efficiency": {},
        "environment": {
            "versions": {"torch": "2.14.1"},
            "git": "0123abc",
            "hardware": "a small computer",
            "threads": 1,
            "deterministic": True,
        },
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        place = record
        for part in path:
            place = place[part]
        place[last] = value
    if record["pruner"] == "dense":
        record["sparsity"]["target"] = 0.0
        record["control"] = "none"
        record["timing"] = record["pattern"] = record["distribution"] = None
    target = record["sparsity"]["target"]
    if record["sparsity"]["prunable"] is None:
        record["sparsity"]["prunable"] = target
    record["metrics"] = {record["metric"]["name"]: record["metric"]["value"], **record["metrics"]}
    names = ("task", "model", "start", "pruner", "control", "finetune", "pattern", "distribution")
    cell = "/".join(str(record[name]) for name in names) + f"/s{target}"
    if record["recipe"] != RECIPE:
        cell += f"/{zlib.crc32(json.dumps(record['recipe']).encode()):08x}"
    record["cell_id"] = record["cell_id"] or f"{zlib.crc32(cell.encode()):08x}"
    record["run_id"] = record["run_id"] or f"{cell}/{record['cell_id']}/seed{record['seed']}"
    return record


def write_run(
    root: Path,
    record: Mapping[str, Any],
    masks: dict[str, Any] | None = None,
    sealed: bool = True,
) -> Path:
    """Write a run's folder as the suite lays it out; returns the folder."""
    names = (record["task"], record["model"], record["pruner"])
    digest = f"{zlib.crc32(record['run_id'].encode()):08x}"
    folder = root.joinpath(
        "runs",
        *(str(name).replace("/", "-") for name in names),
        f"s{record['sparsity']['target']}",
        f"seed{record['seed']}-{digest}",
    )
    if masks is not None:
        write_masks(folder / MASKS, masks)
    if sealed:
        files = {"files": fingerprints(folder)}
        write_record(folder / RECORD, {**record, "integrity": files})
    else:
        write_json(folder / RECORD, record)
    return folder


def write_masks(path: Path, masks: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write bool masks in the suite's packed format."""
    from safetensors.numpy import save_file

    packed = PackedMasks(
        {name: pack_bits(mask) for name, mask in masks.items()},
        {name: mask.shape for name, mask in masks.items()},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(packed.bits, path, metadata=packed.metadata(FORMAT))


#: How far below dense each made-up method falls at full sparsity, in accuracy.
FALLS = {"seven_pre": 0.18, "snip": 0.3, "grasp": 0.36, "magnitude": 0.42, "random": 0.6}


def write_grid(
    root: Path,
    *,
    tasks: Sequence[str] = ("digits",),
    methods: Iterable[str] = FALLS,
    sparsities: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    seeds: int = 3,
    with_masks: bool = True,
    layers: Sequence[str] = LAYERS,
    **changes: Any,
) -> None:
    """Write runs of every method at every sparsity and seed, and dense ones; the same each time."""
    methods = tuple(methods)
    for task in tasks:
        top = 0.97 - 0.03 * (zlib.crc32(task.encode()) % 5)
        for seed in range(seeds):
            for method in ("dense", *methods):
                for sparsity in sparsities if method != "dense" else (0.0,):
                    draw = random.Random(f"{task}/{method}/{sparsity}/{seed}")
                    fall = FALLS.get(method, 0.25) * sparsity**6 if method != "dense" else 0
                    value = round(top - fall + draw.gauss(0, 0.006 + 0.02 * fall), 4)
                    masks = _draw_masks(draw, method, sparsity, seed, layers)
                    kept = {name: int(mask.sum()) for name, mask in masks.items()}
                    total = sum(kept.values())
                    record = make_record(
                        task=task,
                        pruner=method,
                        seed=seed,
                        sparsity__target=sparsity,
                        params__kept=total,
                        params__prunable=WEIGHTS * len(layers),
                        layers={name: {"kept": n, "total": WEIGHTS} for name, n in kept.items()},
                        metric__value=value,
                        metrics__loss=round(2 * (1 - value), 4),
                        metrics__accuracy_last=round(value - 0.004, 4),
                        cost__example_equivalents__total=40_000
                        + 1000 * (zlib.crc32(method.encode()) % 40),
                        efficiency={"bytes": 4 * total + 4096, "macs": 900 * total + 10_000},
                        **changes,
                    )
                    write_run(root, record, masks if with_masks else None)


def _draw_masks(
    draw: random.Random, method: str, sparsity: float, seed: int, layers: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Masks with exactly the asked count; methods other than random agree in part."""
    shared = np.random.default_rng(seed).random(len(layers) * WEIGHTS)
    own = np.random.default_rng(draw.randrange(2**32)).random(len(layers) * WEIGHTS)
    scores = own if method == "random" else shared + 0.5 * own
    count = len(scores) - round(sparsity * len(scores))
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-scores)[:count]] = True
    parts = np.split(mask, len(layers))
    return {name: part.reshape(8, 8) for name, part in zip(layers, parts, strict=True)}
