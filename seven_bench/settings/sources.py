"""Where a task's data comes from, and a fingerprint of it. Needs no torch."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from seven_bench.errors import ConfigError
from seven_bench.settings.digests import digest_files
from seven_bench.settings.model import Source

SMALL = 64 << 20  # bytes; files up to this size are simply read
SYNSETS = "LOC_synset_mapping.txt"  # of ImageNet's folder: a line a class, folder and names


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, which is not imported; None where there is none."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # ValueError: of `__main__`
        spec = None
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return None
    return Path(spec.origin).parent


def local_files(source: Source, data_root: str | None, task: str) -> dict[str, Path]:
    """The local files of a task by split; empty when it comes from the hub.

    Args:
        source: `package` and `file` (a file inside an installed package) or `hub` (a data set's
            name there), `config` and `files` (by the hub's split, below `data_root`: a Parquet
            file, or a folder of Parquet files or of a folder a class).

    Raises: ConfigError when a package or file is missing, naming it.
    """
    if source.package is not None and source.file is not None:
        folder = package_folder(source.package)
        if folder is None:
            package = {"sklearn": "scikit-learn"}.get(source.package, source.package)
            raise ConfigError(
                f"task.source.package={source.package}: task={task} needs a package that holds "
                f"{source.file}: pip install {package}"
            )
        if not (folder / source.file).is_file():
            raise ConfigError(
                f"task.source.package={source.package}: task={task} needs {source.file} in it, "
                f"and there is no {folder / source.file}"
            )
        return {"all": folder / source.file}
    if data_root is None:
        return {}
    files = {split: Path(data_root) / name for split, name in source.files.items()}
    for path in files.values():
        if not path.exists():
            raise ConfigError(
                f"data_root={data_root}: task={task} needs {path}, which is not there; without "
                f"data_root it comes from the hub ({source.hub})"
            )
    return files


def fingerprint(source: Source, data_root: str | None, task: str) -> str:
    """A short hash of the data itself, the same wherever the files lie.

    Every byte counts. Large files and folders of images are read once a machine, at the speed of
    its disk, and looked up after that (`digests`).
    """
    files = local_files(source, data_root, task)
    if not files:
        return f"hub:{'/'.join(filter(None, (source.hub, source.config)))}"
    digest = hashlib.sha256()
    for split, path in sorted(files.items()):
        parquet = parquet_files(path)
        for file in parquet:
            size = file.stat().st_size
            digest.update(f"{split}:{size}:".encode())
            digest.update(file.read_bytes() if size <= SMALL else digest_files([file]).encode())
        if not parquet:
            for folder, images in image_folders(path):
                digest.update(f"{split}:{folder.name}:{digest_files(images)}".encode())
            if (listed := path.parent / SYNSETS).is_file():  # the words for the classes
                digest.update(digest_files([listed]).encode())
    return digest.hexdigest()[:16]


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files that a split is made of: the file itself, or those of a folder."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def image_folders(root: Path) -> list[tuple[Path, list[Path]]]:
    """The folders of classes below `root`, by the alphabet, each with its files."""
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    return [(folder, sorted(f for f in folder.iterdir() if f.is_file())) for folder in folders]
