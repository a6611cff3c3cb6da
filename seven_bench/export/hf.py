"""A folder that transformers or timm open without this package: config, weights, tokenizer, card.

transformers' folders are read by `from_pretrained`, timm's by its scheme `local-dir:`; both are
what their hub has, so that one command puts them there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from torch import nn

from seven_bench.data.task_data import TaskData
from seven_bench.results.statistics import summarise
from seven_bench.settings.conf import find_file
from seven_bench.settings.identity import from_random
from seven_bench.settings.model import ModelImage, Settings
from seven_bench.store.tensors import write_tensors
from seven_bench.training.start import start_name

#: A timm architecture that takes all arguments of its class.
ARCHITECTURES = {"timm.models.vision_transformer.VisionTransformer": "vit_base_patch16_224"}
PIPELINES = {"image": "image-classification", "clip": "zero-shot-image-classification"}
AUTO = {
    "classification": "AutoModelForSequenceClassification",
    "span": "AutoModelForQuestionAnswering",
}


@dataclass(frozen=True)
class Result:
    """What a card says of a run: its record, and the metric of all seeds of its cell, by seed."""

    record: dict[str, Any]
    seeds: dict[int, float]


def save_hf(
    model: nn.Module, settings: Settings, data: TaskData, result: Result, folder: Path
) -> None:
    """Writes model, config, tokenizer and card into an empty folder.

    Args:
        model: the plain model with its final weights; its config is given the labels.
        settings: of its run, checked.
        data: set up; it knows the tokenizer and the names of classes.

    Raises: ValueError when the architecture has no name that the library opens.
    """
    labels = _labels(settings, data)
    if hasattr(model, "config"):
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = getattr(data, "tokenizer", None)
    around = float(getattr(data, "around", 1.0))
    if hasattr(model, "config"):
        _save_transformers(model, settings, labels, folder, around)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(folder))
    else:
        _save_timm(model, settings, labels, folder, around)
    (folder / "README.md").write_text(
        card(settings, result, labels, type(model).__name__), encoding="utf-8"
    )


def open_hf(model: nn.Module, folder: Path) -> nn.Module:
    """The folder's model, as its library opens it; `model` says which class."""
    if hasattr(model, "config"):
        kind = cast(Any, type(model))
        opened: nn.Module = kind.from_pretrained(str(folder), local_files_only=True)
    else:
        import timm

        opened = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return opened.eval()


def _labels(settings: Settings, data: TaskData) -> list[str]:
    """The names of the classes; empty for a number, a span, or where nobody has named them."""
    if settings.task.head == "span" or settings.task.data.arguments.get("regression"):
        return []
    return [*(settings.task.labels or getattr(data, "class_names", ()) or ())]


def _save_transformers(
    model: nn.Module, settings: Settings, labels: Sequence[str], folder: Path, around: float
) -> None:
    plain = cast(Any, model)
    if labels and settings.task.kind == "text":
        plain.config.id2label = dict(enumerate(labels))
        plain.config.label2id = {name: index for index, name in enumerate(labels)}
    if settings.task.data.arguments.get("regression"):
        plain.config.problem_type = "regression"
    plain.save_pretrained(str(folder))
    if (image := settings.model.image) is not None:
        from transformers import CLIPImageProcessor

        processor: Any = CLIPImageProcessor(
            size={"shortest_edge": round(image.size * around)},
            crop_size={"height": image.size, "width": image.size},
            image_mean=list(image.mean),
            image_std=list(image.std),
        )
        processor.save_pretrained(str(folder))


def _save_timm(
    model: nn.Module, settings: Settings, labels: Sequence[str], folder: Path, around: float
) -> None:
    target, image = settings.model.build, settings.model.image
    arguments = dict(target.arguments)
    architecture = arguments.pop("model_name", ARCHITECTURES.get(target.path))
    if architecture is None or image is None:
        raise ValueError(f"hf: {target.path} has no name that timm opens")
    if settings.pruner.small is not None:
        arguments |= _shape(model)
    arguments.pop("drop_path_rate", None)  # of training alone
    classes, colours = arguments.pop("num_classes"), arguments.get("in_chans", 3)
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": classes,
        "model_args": arguments,
        "pretrained_cfg": _timm_input(model, image, colours, classes, around),
    }
    if labels:
        config["label_names"] = list(labels)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    write_tensors(state, folder / "model.safetensors", {"format": "pt"})


def _timm_input(
    model: nn.Module, image: ModelImage, colours: int, classes: int, around: float
) -> dict[str, Any]:
    side = round(image.size * around)
    part = image.size / side
    if int(image.size / part) != side:  # timm rounds down
        part = image.size / (side + 0.5)
    own: Any = getattr(model, "pretrained_cfg", None) or {}
    return {
        "input_size": [colours, image.size, image.size],
        "fixed_input_size": True,
        "mean": list(image.mean[:colours]),
        "std": list(image.std[:colours]),
        "interpolation": "bicubic",
        "crop_pct": part,
        "num_classes": classes,
        "custom_load": False,
        "first_conv": own.get("first_conv", "patch_embed.proj"),
        "classifier": own.get("classifier", "head"),
    }


def _shape(model: nn.Module) -> dict[str, Any]:
    """Of a small ViT, what its settings say of the whole one."""
    vit = cast(Any, model)
    block = vit.blocks[0]
    ratio = (block.mlp.fc1.out_features + 0.5) / vit.embed_dim  # timm rounds down
    return {
        "embed_dim": vit.embed_dim, "depth": len(vit.blocks),
        "num_heads": block.attn.num_heads, "mlp_ratio": ratio,
    }  # fmt: skip


# ---- The card


def card(settings: Settings, result: Result, labels: Sequence[str], kind: str) -> str:
    """A model card: a YAML head as the hub reads it, then what a reader wants to know; `kind` is
    the name of the model's class.
    """
    task, record, params = settings.task, result.record, result.record["params"]
    head = yaml.safe_dump(_head(settings, result), sort_keys=False, allow_unicode=True)
    sparsity = "\n".join(
        f"| {words} | {100 * record['sparsity'][name]:.2f} % |"
        for name, words in (
            ("prunable", "prunable weights"), ("encoder", "the encoder's linear weights"),
            ("non_embedding", "all but embeddings"), ("model", "all parameters"),
        )
    )  # fmt: skip
    named = f"Classes: {', '.join(labels)}.\n\n" if labels else ""
    method = _sentence(settings)
    return f"""---
{head}---

# {settings.model.name} on {task.name}, {settings.pruner.name} at {settings.sparsity:g}

{_debug(settings)}{method}

What was removed is exactly zero in `model.safetensors`: the file is as large, and the model as
fast, as the dense one, unless a format or a kernel makes use of the zeros.

{named}| of | removed |
| --- | ---: |
{sparsity}

**{task.metric.name}** on the {task.metric.split} split, at the {settings.select} epoch:
{_spread(result)}.

## Load it

```python
{_how_to_load(settings, kind)}
```

Trained and measured by seven_bench, run `{_code(record["run_id"])}`,
from `start={start_name(settings)}`, seed {settings.seed}; {params["kept"]:,} of
{params["prunable"]:,} prunable weights are kept.

To put it on the hub: `hf upload YOUR-NAME/{_slug(settings)} .` in this folder.
"""


def _head(settings: Settings, result: Result) -> dict[str, Any]:
    task, metric = settings.task, result.record["metric"]
    by_kind = {**PIPELINES, "text": "text-classification"}
    pipeline = "question-answering" if task.head == "span" else by_kind[task.kind]
    library = "timm" if task.kind == "image" else "transformers"
    value = round(metric["value"], 6)  # a float32's digits end there
    score = {"type": metric["name"], "name": metric["name"], "value": value}
    data = {"type": task.source.hub or task.name, "name": task.name, "split": metric["split"]}
    found = {"task": {"type": pipeline}, "dataset": data, "metrics": [score]}
    head: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": pipeline,
        "tags": ["pruning", "sparse", "seven_bench", settings.pruner.name, library],
        "metrics": [metric["name"]],
    }
    if not settings.debug:  # its figures are no results: the hub shall list none
        head["model-index"] = [{"name": _slug(settings), "results": [found]}]
    if task.source.hub is not None:
        head["datasets"] = [task.source.hub.partition("@")[0]]
    if isinstance(settings.model.pretrained, str) and settings.start.pretrained:
        head["base_model"] = settings.model.pretrained.partition("@")[0]
    return head


def _debug(settings: Settings) -> str:
    if not settings.debug:
        return ""
    return (
        "**Of a run of `debug=true`: a few examples, a few steps, to see that it goes through. "
        "Its figures mean nothing.**\n\n"
    )


def _code(text: str) -> str:
    """What stands in a code span of Markdown: a record is a stranger's."""
    return re.sub(r"[^\w./=+-]", "", text)


def _slug(settings: Settings) -> str:
    parts = (settings.model.name, settings.task.name, settings.pruner.name)
    return "-".join([*(part.replace("/", "-") for part in parts), f"s{settings.sparsity:g}"])


def _sentence(settings: Settings) -> str:
    """What was done to it, and by whose method."""
    pruner = settings.pruner
    if pruner.small is not None:
        less, of = (
            pruner.small.kind,
            "random weights" if from_random(pruner) else "the start's layers",
        )
        return f"A small dense model of less {less}, from {of}: what pruned ones are held against."
    if pruner.timing == "none":
        return "Nothing is removed: it is the dense model."
    when = {"rounds": "in rounds of training", "after": "after training"}
    how = when.get(pruner.timing, f"{pruner.timing} training")
    file = find_file(f"pruner/{pruner.name}")
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None else []
    told = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    about = f" {told}" if told else ""
    return (
        f"{settings.sparsity:.0%} of its prunable weights were removed {how} by `{pruner.name}`, "
        f"pattern {settings.pattern}, distribution {settings.distribution}.{about}"
    )


def _spread(result: Result) -> str:
    """Mean and standard deviation over the seeds that are there; or that it is one seed."""
    own = f"{result.record['metric']['value']:.4f} of this seed"
    if len(result.seeds) < 2:
        return f"{own}; one seed, so nothing is known of the spread over seeds"
    found = summarise([*result.seeds.values()])
    seeds = ", ".join(map(str, sorted(result.seeds)))
    return (
        f"{own}; mean ± standard deviation over seeds {seeds}: {found.mean:.4f} ± {found.std:.4f}"
    )


def _how_to_load(settings: Settings, kind: str) -> str:
    task = settings.task
    if task.kind == "image":
        return 'import timm\n\nmodel = timm.create_model("local-dir:.", pretrained=True).eval()'
    if task.kind == "clip":
        kinds, prompt = (kind, f"AutoTokenizer, CLIPImageProcessor, {kind}"), ""
        template = task.data.arguments.get("prompt")
        if isinstance(template, str):
            prompt = f"\nprompt = {json.dumps(template)}  # of each class"
        further = 'images = CLIPImageProcessor.from_pretrained(".")\n'
    else:
        auto = AUTO[task.head or "classification"]
        kinds, prompt, further = (auto, f"{auto}, AutoTokenizer"), "", ""
    return (
        f"from transformers import {kinds[1]}\n\n"
        f'model = {kinds[0]}.from_pretrained(".").eval()\n'
        f'{further}tokenizer = AutoTokenizer.from_pretrained("."){prompt}'
    )
