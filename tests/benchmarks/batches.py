"""Training on batches of like length against shuffled ones: real tokens a second, on SST-2."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from seven_bench.data.glue import GlueData
from tests.benchmarks.models import SHAPES
from tests.benchmarks.timing import Row, interleaved

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "glue" / "sst2"
TURNS, STEPS = 5, 24  # turns of each way, training steps a turn


def rows() -> list[Row]:
    """One row; without the data, one that says so."""
    name = f"SST-2, MiniLM, batch {SHAPES['MiniLM'].batch}: tokens a second, grouped / shuffled"
    if not DATA.is_dir():
        return [Row(f"{name} (no {DATA.name} below ../shared/data)", None, "x", 1.6, False)]
    torch.set_num_threads(2)
    model = SHAPES["MiniLM"].build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    turns: dict[str, list[tuple[int, float]]] = {}  # tokens and seconds of each

    def way(grouped: bool) -> Callable[[], None]:
        batches, done = _batches(grouped), turns.setdefault(str(grouped), [])

        def turn() -> None:
            tokens, began = 0, time.perf_counter()
            for _ in range(STEPS):
                batch = next(batches)
                tokens += int(batch["attention_mask"].sum())
                optimizer.zero_grad()
                model(**batch).loss.backward()
                optimizer.step()
            done.append((tokens, time.perf_counter() - began))

        return turn

    interleaved({str(kind): way(kind) for kind in (True, False)}, repeats=TURNS)
    totals = {kind: map(sum, zip(*done[1:], strict=True)) for kind, done in turns.items()}
    ours, other = (tokens / seconds for tokens, seconds in (totals["True"], totals["False"]))
    return [
        Row(name, ours / other, "x", 1.6, False, f"{ours:.0f} tokens/s", f"{other:.0f} tokens/s")
    ]


def _batches(grouped: bool) -> Iterator[dict[str, Any]]:
    """Training batches of the data as a run makes them, for ever."""
    files = {split: DATA / f"{split}.parquet" for split in ("train", "validation")}
    data = GlueData(
        seed=0, batch_size=SHAPES["MiniLM"].batch, files=files, columns=["sentence"],
        max_length=128, tokenizer="data", vocabulary=30_000, group_by_length=grouped,
    )  # fmt: skip
    data.setup()
    while True:
        yield from data.train_dataloader()
