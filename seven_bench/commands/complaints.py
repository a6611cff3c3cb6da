"""Any error in one line that says what is wrong: the key, the value, and what is allowed."""

from __future__ import annotations

import difflib
import re
import sys
from typing import Any

from seven_bench.errors import ConfigError, install_line
from seven_bench.settings.conf import conf_dir, names_of
from seven_bench.settings.model import Settings
from seven_bench.settings.node import allowed_at, shown

LAUNCHER_EXTRAS = {
    "joblib": "joblib",
    "ray": "ray",
    "submitit_slurm": "slurm",
    "submitit_local": "slurm",
}
NO_NAME = re.compile(r"null|true|false|[-+]?[\d._]+(e[-+]?\d+)?", re.IGNORECASE)


def complain(error: BaseException) -> None:
    """Says an error in one line on stderr."""
    print(f"error: {one_line(error)}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """The error's own words, or what they come to; names its kind where it is not the user's."""
    text = str(error).strip()
    if isinstance(error, ConfigError):
        # of a loader's process torch gives the whole trace as the message
        return text.splitlines()[-1].partition("ConfigError: ")[2] if "\n" in text else text
    if type(error).__module__.partition(".")[0] in ("hydra", "omegaconf"):
        return _of_hydra(text)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if (mark := getattr(error, "problem_mark", None)) is not None:  # YAML's
        return f"{mark.name}, line {mark.line + 1}: {getattr(error, 'problem', '')}"
    if text.startswith("Config group override must be"):  # Hydra's too
        return _chosen_group(sys.argv[1:]) or text
    first = text.splitlines()[0] if text else ""
    return first if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {first}"


def _of_hydra(text: str) -> str:
    missing = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if missing:
        group, choice = missing.groups()
        if group == "hydra/launcher" and (extra := LAUNCHER_EXTRAS.get(choice)):
            return f"hydra/launcher needs a package: {install_line(extra)}"
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
    merged = re.search(r"Error merging override ([\w.]+)=(.*)", text)
    if merged and (allowed := allowed_at(Settings, merged[1])):
        return f"{merged[1]}={shown(merged[2])}: {allowed}{_listed(merged[1], merged[2])}"
    told = text.partition("See https://hydra.cc")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip())[:300]


def _chosen_group(arguments: list[str]) -> str | None:
    """Of Hydra's error without a key: the group of settings that is given what names no file."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        group = key.lstrip("+").partition("@")[0]
        if (conf_dir() / group).is_dir() and NO_NAME.fullmatch(value):
            return f"{argument}: allowed are {', '.join(names_of(group))}"
    return None


def _listed(key: str, value: str) -> str:
    """`prunable=[pooler]` is what older configs say."""
    return f", such as prunable.include={value}" if key == "prunable" and value[:1] == "[" else ""


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
