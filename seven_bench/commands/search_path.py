"""Where Hydra looks for config files beside the installed ones: in the plug-ins' folders, and in
those that are typed, as it does by itself.
"""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from seven_bench.settings.conf import declare, plugged_in
from seven_bench.settings.model import Settings
from seven_bench.settings.node import read_key

TYPED = ("command-line", "hydra.searchpath in command-line")  # as Hydra says who gave a folder


class PluginsSearchPath(SearchPathPlugin):
    """Appends the folders of installed plug-ins, behind the installed configuration."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for source in plugged_in():
            search_path.append(provider=source.origin, path=f"file://{source.folder}")


def declare_typed(hydra: DictConfig, plugins: object) -> None:
    """Declares the folders and packages of a command line, in whatever process does its runs.

    Args:
        hydra: Hydra's own part of a composed config.
        plugins: the key of that name.

    Raises: ConfigError when one is not there.
    """
    sources = hydra.runtime.config_sources
    folders = [s.path for s in sources if s.provider in TYPED and s.schema == "file"]
    declare(folders, read_key(Settings, "plugins", plugins))
