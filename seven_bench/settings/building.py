"""Objects from `_target_` nodes, from an allowlist of packages alone."""

from __future__ import annotations

from typing import Any

from seven_bench.errors import ConfigError

ALLOWED = ("seven_bench.", "baselines.", "timm.", "transformers.", "torch.", "torchmetrics.")


def build(node: dict[str, Any], /, **arguments: Any) -> Any:
    """Instantiates a node of a plain config; `arguments` are added to its own.

    Raises: ConfigError when a `_target_`, also a nested one, lies outside of `ALLOWED`, or cannot
        be imported.
    """
    _check_targets(node)
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        # partial first: Hydra would turn dataclasses and tensors given here into config nodes
        return instantiate({**node, "_convert_": "all", "_partial_": True})(**arguments)
    except (InstantiationException, TypeError) as error:
        cause = error.__cause__ or error
        raise ConfigError(f"{node['_target_']}: {str(cause).splitlines()[0]}") from error


def _check_targets(node: Any) -> None:
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(ALLOWED):
            allowed = ", ".join(prefix.rstrip(".") for prefix in ALLOWED)
            raise ConfigError(f"_target_={target}: allowed are the packages {allowed}")
        for value in node.values():
            _check_targets(value)
    elif isinstance(node, list):
        for value in node:
            _check_targets(value)
