"""Models by their name: what `model=timm`, `model=hf` and `model=hf_clip` leave open is taken from
the library, or from the `config.json` of a folder or of the hub, before settings are read.

What comes out names a shape and nothing else: a stranger's file says no class and no path. Imports
neither torch nor a library of models, but once for each name of timm's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seven_bench.errors import ConfigError
from seven_bench.settings.building import WORDS
from seven_bench.settings.node import shown
from seven_bench.settings.timm_names import facts_of
from seven_bench.settings.weights import TOKENIZER, locate

CONFIG = "config.json"
LARGEST_FILE = 1 << 20  # bytes of a config
LARGEST_HEADER = 100 << 20  # bytes of a safetensors header, as that library has it
LARGEST = 10**7  # of a shape's numbers
_SHARED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings",
    "type_vocab_size", "initializer_range", "layer_norm_eps", "pad_token_id", "classifier_dropout",
)  # fmt: skip
_DEBERTA = (
    *_SHARED, "relative_attention", "max_relative_positions", "position_biased_input",
    "pos_att_type", "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "norm_rel_ebd",
    "position_buckets", "share_att_key", "embedding_size", "attention_head_size",
    "conv_kernel_size", "conv_act", "conv_groups",
)  # fmt: skip
#: The architectures of texts, with the keys that give them their shape.
TEXT: dict[str, tuple[str, ...]] = {
    "bert": _SHARED,
    "roberta": _SHARED,
    "xlm-roberta": _SHARED,
    "camembert": _SHARED,
    "electra": (*_SHARED, "embedding_size"),
    "mpnet": (*_SHARED, "relative_attention_num_buckets"),
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
    "distilbert": (
        "vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation", "dropout",
        "attention_dropout", "seq_classif_dropout", "qa_dropout", "max_position_embeddings",
        "sinusoidal_pos_embds", "initializer_range", "pad_token_id",
    ),
}  # fmt: skip
_TOWER = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "layer_norm_eps", "attention_dropout",
)  # fmt: skip
_WORDS = (
    *_TOWER, "vocab_size", "max_position_embeddings", "pad_token_id", "bos_token_id",
    "eos_token_id", "projection_size",
)  # fmt: skip
_IMAGES = (*_TOWER, "image_size", "patch_size", "num_channels", "vision_use_head")
#: Of images and texts: what their library takes where a config is silent, by tower.
CLIP: dict[str, dict[str, Any]] = {
    "clip": {
        "words": 49408, "positions": 77, "size": 224,
        "mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711),
    },
    "siglip": {
        "words": 32000, "positions": 64, "size": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3,
    },
}  # fmt: skip
REFUSED = {
    "albert": "its layers share their weights, so what a weight is to one of them has no score",
}


def expanded(composed: DictConfig) -> DictConfig:
    """A composed config in which a model that is given by a name has all that this stands for.

    Raises: ConfigError when there is no such model, or it cannot be pruned or trained here.
    """
    library = OmegaConf.select(composed, "model.library")
    if library is None:
        return composed
    whole = composed.copy()
    OmegaConf.set_struct(whole, False)
    model = whole.model
    if library not in LIBRARIES:
        raise ConfigError(f"model.library={shown(library)}: allowed are {', '.join(LIBRARIES)}")
    if not isinstance(model.get("name"), str):
        raise ConfigError(f"model={library} needs model.name={LIBRARIES[library][1]}")
    LIBRARIES[library][0](whole, model)
    model.pop("library")
    return whole


def _expand_timm(whole: DictConfig, model: DictConfig) -> None:
    facts = facts_of(model.name)
    if facts.problem is not None and OmegaConf.select(whole, "prunable.pattern") is None:
        raise ConfigError(f"model.name={model.name}: {facts.problem}")
    if model.pretrained is None:
        model.pretrained = facts.weights
    if model.image.size not in (None, facts.size):
        model.build.img_size = model.image.size
    _fill(model.image, size=facts.size, mean=list(facts.mean), std=list(facts.std))


def _expand_text(whole: DictConfig, model: DictConfig) -> None:
    folder, config = _config_of(model)
    kind = _kind(config, TEXT, folder)
    shape = _shape(config, TEXT[kind], folder)
    if "vocab_size" not in shape:
        raise ConfigError(f"{folder / CONFIG}: vocab_size is missing")
    width = shape.get("embedding_size", shape.get("hidden_size", shape.get("dim")))
    _check_weights(folder, "word_embeddings.weight", (shape["vocab_size"], width))
    _check_length(whole, kind, shape)
    model.build = {**model.build, "model_type": kind, **shape}
    model.vocabulary = shape["vocab_size"]


def _expand_clip(_: DictConfig, model: DictConfig) -> None:
    folder, config = _config_of(model)
    kind = _kind(config, CLIP, folder)
    own = CLIP[kind]
    text = _shape(config.get("text_config") or {}, _WORDS, folder)
    vision = _shape(config.get("vision_config") or {}, _IMAGES, folder)
    text = {"vocab_size": own["words"], "max_position_embeddings": own["positions"], **text}
    if kind == "clip":
        text.pop("projection_size", None)
        vision.pop("vision_use_head", None)
        model.build.projection_dim = config.get("projection_dim", 512)
    else:
        model.pad_to = text["max_position_embeddings"]  # as it was trained
    size = vision.pop("image_size", own["size"])
    if model.image.size not in (None, size):
        raise ConfigError(f"model.image.size={model.image.size}: allowed is the model's, {size}")
    stored = _json(folder / "preprocessor_config.json") or {}
    _fill(
        model.image,
        size=size,
        mean=stored.get("image_mean", list(own["mean"])),
        std=stored.get("image_std", list(own["std"])),
    )
    width = text.get("hidden_size")
    _check_weights(folder, "token_embedding.weight", (text["vocab_size"], width))
    vision["image_size"] = size
    model.build = {**model.build, "model_type": kind, "text": text, "vision": vision}
    model.vocabulary = text["vocab_size"]


LIBRARIES: dict[str, tuple[Callable[[DictConfig, DictConfig], None], str]] = {
    "timm": (_expand_timm, "NAME, as timm.list_models() has it"),
    "hf": (_expand_text, "FOLDER with config.json, or a name on the hub"),
    "hf_clip": (_expand_clip, "FOLDER with config.json, or a name on the hub"),
}


def _fill(node: DictConfig, **values: Any) -> None:
    """Sets what is null."""
    for key, value in values.items():
        if node.get(key) is None:
            node[key] = value


def _config_of(model: DictConfig) -> tuple[Path, dict[str, Any]]:
    """A model's folder and its config; the name becomes that of the folder."""
    given = str(model.name)
    place = Path(given).expanduser()
    if not place.is_dir() and (given.count("/") != 1 or given.startswith(("/", ".", "~"))):
        raise ConfigError(
            f"model.name={shown(given)}: no such folder, and no name on the hub (owner/name)"
        )
    folder = locate(given, (CONFIG,))
    config = _json(folder / CONFIG)
    if config is None:
        raise ConfigError(f"model.name={shown(given)}: {folder} holds no {CONFIG}")
    if place.is_dir():
        model.name = place.resolve().name
    for key in ("pretrained", "tokenizer"):
        if model.get(key) is None:
            model[key] = given
    if model.tokenizer != "data":
        locate(model.tokenizer, TOKENIZER)
    return folder, config


def _json(path: Path) -> dict[str, Any] | None:
    """A file's object; None where there is no file. Raises ConfigError when it is none."""
    try:
        if not path.is_file():
            return None
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ConfigError(f"{path}: {size:,} bytes are no config")
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: no JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: no JSON object")
    return found


def _kind(config: Mapping[str, Any], known: Mapping[str, Any], folder: Path) -> str:
    """The architecture, if it is one of those known and nothing about it is odd."""
    kind = config.get("model_type")
    where = f"{folder / CONFIG}: model_type={shown(kind)}"
    if isinstance(kind, str) and kind in REFUSED:
        raise ConfigError(f"{where}: {REFUSED[kind]}; it cannot be pruned")
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(f"{where}: allowed are {', '.join(known)}")
    for key, plain in (
        ("auto_map", None), ("quantization_config", None), ("is_decoder", False),
        ("position_embedding_type", "absolute"), ("pruned_heads", None),
    ):  # fmt: skip
        if config.get(key) not in (None, {}, plain):
            allowed = plain or ("false" if plain is False else "none")
            said = shown(config[key])
            raise ConfigError(f"{folder / CONFIG}: {key}={said}: allowed is {allowed}")
    return kind


def _shape(config: Mapping[str, Any], keys: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The keys of a config that give its shape: numbers, and words (lists of them joined by |)."""
    if not isinstance(config, Mapping):
        raise ConfigError(f"{folder / CONFIG}: {shown(config)}: allowed is an object")
    found: dict[str, Any] = {}
    for key in keys:
        value = config.get(key)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "|".join(value)
        if value is None or value == "":
            continue
        number = isinstance(value, int | float) and -1 <= value <= LARGEST
        if not number and not (isinstance(value, str) and key in WORDS):
            allowed = "a word" if key in WORDS else f"a number up to {LARGEST:,}"
            raise ConfigError(f"{folder / CONFIG}: {key}={shown(value)}: allowed is {allowed}")
        found[key] = value
    return found


def _check_length(whole: DictConfig, kind: str, shape: Mapping[str, Any]) -> None:
    """A task's texts have places in the model's table of positions."""
    positions, length = shape.get("max_position_embeddings"), whole.task.get("max_length")
    if kind in ("roberta", "xlm-roberta", "camembert", "mpnet") and positions is not None:
        positions -= 2  # theirs begin behind the padding's
    if positions is not None and isinstance(length, int) and length > positions:
        raise ConfigError(
            f"task.max_length={length}: model.name={whole.model.name} has {positions} positions; "
            f"task.max_length={positions} fits"
        )


def _check_weights(folder: Path, name: str, shape: tuple[Any, Any]) -> None:
    """The weights that lie beside a config are of its shape: seen by the words' table."""
    path = folder / "model.safetensors"
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: Any = json.loads(file.read(size)) if size <= LARGEST_HEADER else None
        tables = [v["shape"] for k, v in header.items() if k.endswith(name)]
    except (ValueError, RecursionError, OSError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no safetensors file") from error
    if not tables:
        raise ConfigError(f"{path}: holds no {name}: not the weights of {folder / CONFIG}")
    wanted = [shape[0], shape[1] if shape[1] is not None else tables[0][-1]]
    if tables[0] != wanted:
        raise ConfigError(f"{path}: {name} is {tables[0]}, {CONFIG} says {wanted}")
