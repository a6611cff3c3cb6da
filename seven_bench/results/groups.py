"""Which runs stand in one table, and methods' names.

The runs of a table are of one task, model, start and measure, and of one recipe: alike in all that
decides a result and is no column. Runs that do not say their recipe are a group of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from seven_bench.results.recipes import PREFIX, find_differences, tell_value
from seven_bench.store.files import CONFIG
from seven_bench.store.finished import read_config

DENSE = "dense"
SEPARATOR = " \N{MIDDLE DOT} "

#: What a replicate is: runs of one split and one seed are paired.
REPLICATE = ["seeds.split", "seed"]
#: Further runs of one replicate, over which means are taken before it is paired.
DRAW = "seeds.calibration"
#: Of a method that is given masks, whose: `lth of glue/mnli`.
MASKS_FROM = "masks.from"

#: What makes runs comparable beside task, model and start. Pattern binds pruned runs only: the
#: dense row has none.
_MEASURE = ("metric.name", "metric.split", "metric.epoch")
_SETTINGS = ("finetune", *_MEASURE, "pattern")
_APART = ("finetune", *_MEASURE, "recipe_id")
_WHERE = ("task", "model", "start", *_SETTINGS, "recipe_id")
#: So many keys of a recipe stand in a title; what is told of it otherwise names all of them.
_TITLED = 3
UNKNOWN = "recipe unknown"
_METHOD = "method."  # columns of collected records that hold what a method is

#: Settings that tell cells of one table apart by design, so that they name no variant.
_EXPECTED = frozenset({"seed", "split_seed", "sparsity"})
#: Keys of a config that say how and where a run was made and nothing about what it is.
_UNRELATED = (
    *("output_root", "data_root", "logger", "hydra", "suite", "experiment"),
    *("progress", "dry_run", "retry_failed", "shard"),
)


@dataclass(frozen=True)
class Metric:
    """The measure of a group: its record name, the split and epoch it was read at."""

    name: str
    split: str
    epoch: str
    higher_is_better: bool


@dataclass(frozen=True)
class Group:
    """Runs that may stand in one table.

    `runs` holds the pruned runs and those of small dense models, `dense` the dense ones, both with
    the collected columns and `method`, the name that a reader sees. `setting` says what tells this
    group from others of the same task, model and start; it is empty where nothing does. `recipe_id`
    is empty where the runs do not say their recipe: then nothing is tested. `differing` holds the
    keys in which the recipe is another than those groups', each with its value here. Of runs that
    are the same but for their machine, one is taken: `repeated` counts the others.
    """

    task: str
    model: str
    start: str
    setting: str
    metric: Metric
    runs: pd.DataFrame
    dense: pd.DataFrame
    recipe_id: str = ""
    differing: Mapping[str, str] = field(default_factory=dict)
    repeated: int = 0

    @property
    def alike(self) -> bool:
        """Whether the records say that the runs were trained alike."""
        return bool(self.recipe_id)

    @property
    def title(self) -> str:
        """Task, model, start and setting, in one line."""
        parts = (self.task, self.model, f"start {self.start}", self.setting)
        return SEPARATOR.join(part for part in parts if part)

    @cached_property
    def sparsities(self) -> list[float]:
        """The target sparsities of the pruned runs, ascending."""
        return sorted(self.runs["sparsity.target"].unique().tolist())

    @cached_property
    def controls(self) -> list[str]:
        """Small dense models that stand beside the pruned ones at their sparsities, by name: rows
        of every table, but never its best, and compared with where that is asked for alone.
        """
        return sorted(self.runs.loc[is_control(self.runs), "method"].unique().tolist())

    @cached_property
    def methods(self) -> list[str]:
        """Pruned methods, best first: by mean at the highest sparsity, then at the next."""
        runs = self.runs[~is_control(self.runs)]
        means = runs.groupby(["method", "sparsity.target"])["metric.value"].mean().unstack()
        losses = (-means if self.metric.higher_is_better else means).fillna(float("inf"))
        order = {str(name): tuple(row[::-1]) for name, row in losses.T.items()}
        return sorted(order, key=lambda method: (*order[method], method))

    @cached_property
    def by_seed(self) -> dict[tuple[str, float], NDArray[np.float64]]:
        """The metric of each (method, target sparsity) over the group's splits and seeds, a mean
        over draws of calibration; NaN where absent.

        Dense runs stand at sparsity 0.
        """
        runs = pd.concat([self.runs, self.dense.assign(**{"sparsity.target": 0.0})])
        runs = runs.drop_duplicates([*REPLICATE, DRAW, "method", "sparsity.target"])
        table = runs.pivot_table(
            index=REPLICATE,
            columns=["method", "sparsity.target"],
            values="metric.value",
            aggfunc="mean",
        )
        return dict(zip(table.columns, table.to_numpy(dtype=float).T, strict=True))


def is_control(runs: pd.DataFrame) -> pd.Series:
    """Which runs trained a small dense model in the place of a pruned one."""
    if "small.kind" not in runs:
        return pd.Series(False, index=runs.index)
    return runs["small.kind"].notna()


def tell_replicates(runs: pd.DataFrame) -> tuple[str, str]:
    """Over what runs a mean is taken and what its number counts: `5 folds x 2 seeds`, `runs`."""
    kinds = (("seeds.split", _split_word(runs)), ("seed", "seed"), (DRAW, "calibration draw"))
    counts = [(runs[name].nunique(), word) for name, word in kinds]
    varied = [(count, word) for count, word in counts if count > 1]
    own_draws = runs[DRAW].isna() | (runs[DRAW] == runs["seed"])
    if own_draws.all():  # they follow the seed
        varied = [(count, word) for count, word in varied if word != "calibration draw"]
    if not any(word != "seed" for _, word in varied):
        return "seeds", "seeds"
    return " x ".join(f"{count} {word}s" for count, word in varied), "runs"


def tell_nested(runs: pd.DataFrame) -> str:
    """What tests over pairs of split and seed speak of, where seeds lie in splits; else empty.

    A sign flip takes the seeds of a split as independent, and they are, given the split: of others
    they say less, since what a split's images and training data favour is in all of its pairs.
    """
    if runs["seeds.split"].nunique() < 2 or runs.groupby("seeds.split")["seed"].nunique().max() < 2:
        return ""
    word = _split_word(runs)
    shared = "images and training data" if word == "fold" else "training data"
    return f"seeds of one {word} share its {shared}, so tests speak of these {word}s"


def _split_word(runs: pd.DataFrame) -> str:
    return "fold" if "metrics.folds" in runs and runs["metrics.folds"].notna().any() else "split"


def split_groups(records: pd.DataFrame) -> list[Group]:
    """Split collected records into groups, sorted by task, model and start.

    The dense runs of a task, model, start, fine-tuning, measure and recipe belong to the group of
    every pattern; so do small dense models, at the sparsities that it has.
    """
    if records.empty:
        return []
    records = _fill_texts(records)
    records = records.assign(method=label_methods(records))
    is_dense = records["pruner"] == DENSE
    groups = []
    for (task, model, start), family in records.groupby(["task", "model", "start"]):
        varying = [name for name in _SETTINGS if _values(family, name).nunique() > 1]
        recipes = find_differences(family[family["recipe_id"] != ""])
        for _, same in family.groupby(list(_APART)):
            dense, others = same[is_dense[same.index]], same[~is_dense[same.index]]
            small, pruned = others[is_control(others)], others[~is_control(others)]
            name, split, epoch, higher = same[[*_MEASURE, "metric.higher_is_better"]].iloc[0]
            metric = Metric(name, split, epoch, bool(higher))
            patterns = [_with_small(runs, small) for _, runs in pruned.groupby("pattern")]
            patterns = patterns or [small]
            for several in patterns:
                runs, once = _drop_repeated(several), _drop_repeated(dense)
                repeated = len(several) + len(dense) - len(runs) - len(once)
                first = (runs if len(runs) else once).iloc[0]
                told = [f"{name.rpartition('.')[2]} {first[name] or 'none'}" for name in varying]
                recipe_id = str(first["recipe_id"])
                here = (
                    {key: tell_value(first[PREFIX + key]) for key in recipes} if recipe_id else {}
                )
                setting = ", ".join([*told, *_title_recipe(recipe_id, here)])
                groups.append(
                    Group(
                        task, model, start, setting, metric, runs, once, recipe_id, here, repeated
                    )
                )
    return groups


def _with_small(runs: pd.DataFrame, small: pd.DataFrame) -> pd.DataFrame:
    beside = small["sparsity.target"].isin(runs["sparsity.target"])
    return pd.concat([runs, small[beside]]) if beside.any() else runs


def _drop_repeated(runs: pd.DataFrame) -> pd.DataFrame:
    """One run a method, variant, sparsity and seeds, where records say what a variant is."""
    repeated = runs.duplicated(["method", "variant", "sparsity.target", *REPLICATE, DRAW])
    return runs[~repeated | (runs["variant"] != runs["method_id"])]


def _title_recipe(recipe_id: str, differing: Mapping[str, str]) -> list[str]:
    if not recipe_id:
        return [UNKNOWN]
    told = [f"{key} {value}" for key, value in [*differing.items()][:_TITLED]]
    return [*told, f"recipe {recipe_id}"] if len(differing) > _TITLED else told


def _values(family: pd.DataFrame, name: str) -> pd.Series:
    pruned = (family["pruner"] != DENSE) & ~is_control(family)
    return family.loc[pruned, name] if name == "pattern" else family[name]


def _fill_texts(records: pd.DataFrame) -> pd.DataFrame:
    texts = ["distribution", "timing", "control", *_SETTINGS]
    ids = ("recipe_id", "method_id")
    records = records.assign(**{name: "" for name in ids if name not in records})
    texts += ids
    filled = {name: records[name].map(lambda v: "" if pd.isna(v) else str(v)) for name in texts}
    filled["sparsity.target"] = records["sparsity.target"].round(6)
    # A cell is one machine's: a variant is one on all machines, where records say enough.
    said = (filled["recipe_id"] != "") & (filled["method_id"] != "")
    filled["variant"] = filled["method_id"].where(said, records["cell_id"])
    return records.assign(**filled)


def label_methods(records: pd.DataFrame) -> pd.Series:
    """Name the method of each run so that one name never covers two different things.

    The name is the pruner's, then whose masks it was given, if it was, then the control (shuffled,
    inverted, ...) where there is one, then distribution and timing where the pruner occurs with
    several. Variants that still share name
    and sparsity differ in their settings: what differs is added, as the record has it, or else
    `config.yaml`. Expects texts without missing values, and `variant`.
    """
    labels = records["pruner"].astype(object)
    if MASKS_FROM in records:
        source = records[MASKS_FROM]
        labels = labels.where(source.isna(), labels + " (" + source.astype(str) + ")")
    pruned = records["pruner"] != DENSE
    control = records["control"]
    labels = labels.where(control.isin(["", "none"]) | ~pruned, labels + SEPARATOR + control)
    for name in ("distribution", "timing"):
        several = records.groupby("pruner")[name].transform("nunique") > 1
        named = several & pruned & (records[name] != "")
        labels = labels.where(~named, labels + SEPARATOR + records[name])
    for rows in _clashing(records, labels):
        suffixes = _name_variants(rows)
        labels.loc[rows.index] += rows["variant"].map(suffixes)
    return labels.astype(str)


def _clashing(records: pd.DataFrame, labels: pd.Series) -> Iterator[pd.DataFrame]:
    """Yield the runs of each label that stands for several variants at one sparsity of a group."""
    # A dense row has no pattern, and serves the groups of all patterns.
    pattern = records["pattern"].where(records["pruner"] != DENSE, "")
    keyed = records.assign(label=labels, pattern=pattern)
    for _, rows in keyed.groupby([*_WHERE, "label"]):
        if (rows.groupby("sparsity.target")["variant"].nunique() > 1).any():
            yield records.loc[rows.index]


def _name_variants(rows: pd.DataFrame) -> dict[str, str]:
    """Return what to add to the label of each variant: the settings that differ, or else a hash."""
    cells = rows.drop_duplicates("variant")
    configs = {row["variant"]: _read_settings(row) for _, row in cells.iterrows()}
    hashes = dict(zip(cells["variant"], cells["cell_id"], strict=True))
    differing: dict[str, None] = {}
    for _, rivals in cells.groupby("sparsity.target"):
        settings = [configs[variant] for variant in rivals["variant"]]
        names = dict.fromkeys(name for setting in settings for name in setting)
        differing |= {n: None for n in names if len({s.get(n) for s in settings}) > 1}
    suffixes = {}
    for variant, config in configs.items():
        told = [f"{name}={config[name]}" for name in list(differing)[:3] if name in config]
        # Three settings are what a label can carry; beyond, only the hash is exact.
        exact = bool(told) and len(differing) <= 3
        suffixes[variant] = SEPARATOR + ", ".join(
            told if exact else [*told[:1], hashes[variant].rpartition("/")[2][:8]]
        )
    return suffixes


def _read_settings(row: pd.Series) -> dict[str, str]:
    """The settings of a run that could tell it from another of its name; empty where unreadable."""
    if row["variant"] == row["method_id"]:
        told = {name: row[name] for name in row.index if str(name).startswith(_METHOD)}
        return {name.removeprefix(_METHOD): tell_value(value) for name, value in told.items()}
    try:
        config = dict(_flatten(read_config(Path(row["folder"], CONFIG))))
    except (OSError, ValueError):
        config = {}
    for name in ("environment.threads",):
        config[name] = str(row.get(name))
    return {
        name: value
        for name, value in config.items()
        if name.rpartition(".")[2] not in _EXPECTED and not name.startswith(_UNRELATED)
    }


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(value)
