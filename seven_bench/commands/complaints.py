"""Any error in one line that says what is wrong: the key, the value, and what is allowed."""

from __future__ import annotations

import difflib
import re
import sys
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.conf import conf_dir

LAUNCHER_EXTRAS = {
    "joblib": "joblib",
    "ray": "ray",
    "submitit_slurm": "slurm",
    "submitit_local": "slurm",
}


def complain(error: BaseException) -> None:
    """Says an error in one line on stderr."""
    print(f"error: {one_line(error)}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """The error's own words, or what they come to; names its kind where it is not the user's."""
    text = str(error).strip()
    if isinstance(error, ConfigError):
        return text
    if type(error).__module__.partition(".")[0] in ("hydra", "omegaconf"):
        return _of_hydra(text)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    first = text.splitlines()[0] if text else ""
    return first if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {first}"


def _of_hydra(text: str) -> str:
    missing = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if missing:
        group, choice = missing.groups()
        if group == "hydra/launcher" and (extra := LAUNCHER_EXTRAS.get(choice)):
            return f"hydra/launcher needs a package: pip install 'seven-bench[{extra}]'"
        listed = text.partition("Available options in")[2].partition("Config search path")[0]
        known = [line.strip() for line in listed.splitlines() if line.startswith("\t")]
        return (
            f"{group}={choice}: unknown {group}; known are {', '.join(known)}{_near(choice, known)}"
        )
    odd = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' is not", text
    )
    if odd:
        key = odd.group(1).split("@")[0]
        full = re.search(r"full_key: (\S+)", text)
        key = full.group(1) if full else key
        return f"{key}: no such key{_near(key, known_keys())} (to add a new one: +{key}=...)"
    told = text.partition("See https://hydra.cc")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip())[:300]


def _near(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def known_keys() -> list[str]:
    """All keys of the default config, dotted, and the names of the groups."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    keys: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            keys.append(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config")
        composed._set_parent(None)
        walk(OmegaConf.to_container(composed, resolve=False), "")
    return [*keys, *(path.name for path in conf_dir().iterdir() if path.is_dir())]
