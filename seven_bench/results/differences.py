"""What parts a cell of ours from the setting of a published row."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seven_bench.results.cells import Cell
from seven_bench.results.groups import DENSE, MASKS_FROM
from seven_bench.results.published import Row

#: Reached and published sparsity that differ by more are two settings.
SAME_SPARSITY = 0.005
#: A budget of epochs beyond this factor of the published one, either way, is another experiment.
SAME_BUDGET = 2.0
#: A tenth of the training set at most is held out for validation; less than this is a subset.
WHOLE = 0.89
#: Training and scored examples of the official data sets. GLUE: Wang et al. 2018, arXiv 1804.07461,
#: the dev sets (MNLI matched); SQuAD 1.1: arXiv 1606.05250, dev; ImageNet-1k: arXiv 1409.0575.
OFFICIAL = {
    "glue/cola": (8_551, 1_043),
    "glue/mnli": (392_702, 9_815),
    "glue/mrpc": (3_668, 408),
    "glue/qnli": (104_743, 5_463),
    "glue/qqp": (363_846, 40_430),
    "glue/rte": (2_490, 277),
    "glue/sst2": (67_349, 872),
    "glue/stsb": (5_749, 1_500),
    "imagenet": (1_281_167, 50_000),
    "squad": (87_599, 10_570),
}
#: Fields of a row that a reader would want, and how to call one that is not stated.
_WANTED = {
    "epochs": "epochs",
    "lr": "learning rate",
    "batch_size": "batch size",
    "kd": "distillation",
}


@dataclass(frozen=True)
class Difference:
    """What differs in the setting, in words. One that `matters` forbids a verdict on the value."""

    words: str
    matters: bool = False


def fits(row: Row, cell: Cell) -> bool:
    """Whether a cell is of the row's task, method, control, given masks and sparsity; all else
    differs.
    """
    if cell.get("task") != row.task or cell.get("pruner") != row.method:
        return False
    if (cell.get("control") or "none") != row.control:
        return False
    if row.masks is not None and cell.get(MASKS_FROM) != row.masks:
        return False
    if row.method == DENSE or row.sparsity is None:
        return True
    reached = cell.sparsity(row.denominator)
    if reached is None:
        reached = cell.sparsity("target")
    return reached is not None and abs(reached - row.sparsity) <= SAME_SPARSITY


def list_differences(row: Row, cell: Cell) -> list[Difference]:
    """What differs between a published setting and ours, that which matters first.

    Fields that the source does not state cannot differ; one entry names the important ones, and
    always the epoch: no source here says whether the last or the best one is printed.
    """
    found = [
        *_compare_kinds(row, cell),
        *_compare_data(row, cell),
        *_compare_training(row, cell),
        *_compare_details(row, cell),
    ]
    if row.hardware is not None:
        found.append(Difference(f"times and memory belong to their machine ({row.hardware})", True))
    unstated = [words for name, words in _WANTED.items() if getattr(row, name) is None]
    unstated.append(f"which epoch is measured (ours: {cell.get('metric.epoch') or 'not recorded'})")
    found.append(Difference(f"not stated in the source: {', '.join(unstated)}"))
    return sorted(found, key=lambda difference: not difference.matters)


def _compare_kinds(row: Row, cell: Cell) -> list[Difference]:
    pruned = row.method != DENSE
    kinds = [
        ("model", row.model, cell.get("model")),
        ("start", row.start, cell.get("start")),
        ("split", row.split, cell.get("metric.split")),
        ("fine-tuning", row.finetune, cell.get("finetune")),
        ("pattern", row.pattern if pruned else None, cell.get("pattern")),
        ("distribution", row.distribution if pruned else None, cell.get("distribution")),
        ("distillation", _say_flag(row.kd), _say_flag(cell.distilled)),
    ]
    return [
        Difference(f"{name}: ours {ours or 'not recorded'}, published {theirs}", True)
        for name, theirs, ours in kinds
        if theirs is not None and ours != theirs
    ]


def _say_flag(flag: bool | None) -> str | None:
    return None if flag is None else "yes" if flag else "no"


def _compare_data(row: Row, cell: Cell) -> list[Difference]:
    if row.task not in OFFICIAL:
        return []
    found = []
    train, scored = OFFICIAL[row.task]
    ours = cell.get("metrics.test_examples")
    if ours is None:
        found.append(Difference("how many examples were scored is not recorded", True))
    elif int(ours) != scored:
        found.append(Difference(f"scored on {int(ours):,} of {scored:,} examples", True))
    trained = cell.train_examples
    if trained is None:
        found.append(Difference("the size of the training set is not recorded", True))
    elif trained < WHOLE * train:
        found.append(Difference(f"trained on {trained:,} of {train:,} examples", True))
    return found


def _compare_training(row: Row, cell: Cell) -> list[Difference]:
    found = []
    epochs = cell.setting("trainer.max_epochs")
    if (steps := cell.setting("trainer.max_steps")) is not None:
        found.append(Difference(f"our training is cut at {steps} steps", True))
    if row.epochs is not None and epochs != row.epochs:
        words = f"epochs: ours {epochs or 'not recorded'}, published {row.epochs:g}"
        far = not epochs or not 1 / SAME_BUDGET <= row.epochs / epochs <= SAME_BUDGET
        found.append(Difference(words, far))
    rate = cell.setting("trainer.lr")
    if row.lr is not None and not (rate and math.isclose(float(rate), row.lr, rel_tol=1e-6)):
        words = f"learning rate: ours {rate or 'not recorded'}, published {row.lr:g}"
        found.append(Difference(words))
    batch = cell.setting("trainer.batch_size")
    batch = batch and batch * (cell.setting("trainer.accumulate") or 1)
    if row.batch_size is not None and batch != row.batch_size:
        words = f"batch size: ours {batch or 'not recorded'}, published {row.batch_size}"
        found.append(Difference(words))
    return found


def _compare_details(row: Row, cell: Cell) -> list[Difference]:
    found = []
    layers = cell.get("layers")
    if row.linears is not None and layers and len(layers) != row.linears:
        found.append(Difference(f"pruned layers: ours {len(layers)}, published {row.linears}"))
    if row.denominator is not None and cell.sparsity(row.denominator) is None:
        words = f"the sparsity over {row.denominator} is not recorded; the target's is taken"
        found.append(Difference(words))
    if row.seeds is not None and row.seeds != len(cell.runs):
        found.append(Difference(f"seeds: ours {len(cell.runs)}, published {row.seeds}"))
    return found
