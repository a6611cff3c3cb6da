"""Rows of a data set: local Parquet files, or the hub's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.hub import reachable


def load_rows(
    files: dict[str, Path], hub: str | None, splits: tuple[str, ...], config: str | None = None
) -> Any:
    """Splits as `datasets` rows, from local Parquet files or, without any, from the hub.

    Args:
        files: by split: a Parquet file, or a folder of them; empty: the hub's.
        hub: the data set's name on the hub.
        splits: the hub's names of what is wanted.
        config: the data set's configuration on the hub.

    Raises: ConfigError when there are no local files and the hub cannot be reached, or when a file
        is not what it should be.
    """
    import datasets

    datasets.disable_progress_bars()
    if files:
        paths = {split: _parquet(files[split]) for split in splits}
        try:
            return datasets.load_dataset("parquet", data_files=paths)
        except (OSError, RuntimeError, ValueError) as error:
            shown = ", ".join(str(files[split]) for split in splits)
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ConfigError(f"cannot read {shown}: {reason}") from error
    there = reachable()
    if not there:
        datasets.config.HF_HUB_OFFLINE = True  # no retries; what is cached is still found
    try:
        return {split: datasets.load_dataset(hub, config, split=split) for split in splits}
    except (OSError, RuntimeError, ValueError) as error:
        name = "/".join(filter(None, (hub, config)))
        reason = (str(error).splitlines() or [""])[0] if there else "the hub cannot be reached"
        raise ConfigError(
            f"no data for {name}: {reason}; connect to the network, or give data_root=FOLDER with "
            "its Parquet files"
        ) from error


def _parquet(path: Path) -> str | list[str]:
    return sorted(map(str, path.glob("*.parquet"))) if path.is_dir() else str(path)
