"""What goes with what: scores, timings, patterns, distributions, masking, controls.

All of it follows from what the parts declare. Scores declare in their source, which is read without
importing it: neither a check nor `seven_bench.commands.list` should wait for torch.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.pruning.distributions import DISTRIBUTIONS
from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.patterns import PATTERNS

# What scores are supplied with, by timing: a model at rest shows more than one under training.
AT_REST = frozenset(NEEDS)
SUPPLIED = {
    "before": AT_REST,
    "during": frozenset(name for name, need in NEEDS.items() if need.under_training),
    "rounds": AT_REST,
    "after": AT_REST,
}
MASKINGS = {
    "before": ("hard", "regrow"),
    "during": ("hard", "rewire", "regrow", "straight_through"),
    "rounds": ("hard",),
    "after": ("hard", "regrow"),
}
ONE_SHOT = frozenset(name for name, need in NEEDS.items() if need.one_shot)
LABELS = frozenset(name for name, need in NEEDS.items() if need.sees_labels)


def declared(target: str) -> dict[str, Any]:
    """What a score's class says of itself: `needs` and `compared`, its own or inherited.

    Args:
        target: dotted name of the class, as in a `_target_`.

    Raises: ConfigError when there is no such class, or what it says is no plain literal.
    """
    return dict(_declared(target))


@cache
def _declared(target: str) -> tuple[tuple[str, Any], ...]:
    said: dict[str, Any] = {"needs": frozenset({"weights"}), "compared": "network"}
    module, _, name = target.rpartition(".")
    source = _source(module, target)
    tree = ast.parse(source)
    found = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if found is None:
        origin = _imported_from(tree, name, target)
        return _declared(f"{origin}.{name}")
    for base in found.bases:
        if isinstance(base, ast.Name) and base.id not in ("Score", "Protocol"):
            local = any(isinstance(n, ast.ClassDef) and n.name == base.id for n in tree.body)
            home = module if local else _imported_from(tree, base.id, target)
            said.update(_declared(f"{home}.{base.id}"))
    for node in found.body:
        key = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            key = node.targets[0]
        if isinstance(key, ast.Name) and key.id in said:
            said[key.id] = _literal(node.value, f"{target}.{key.id}")  # type: ignore[union-attr]
    return tuple(said.items())


def _source(module: str, target: str) -> str:
    try:
        spec = find_spec(module) if module else None
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"_target_={target}: there is no module {module or target}")
    return Path(spec.origin).read_text(encoding="utf-8")


def _imported_from(tree: ast.Module, name: str, target: str) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return str(node.module)
    raise ConfigError(f"_target_={target}: there is no class {name}")


def _literal(node: ast.expr | None, where: str) -> Any:
    try:
        if isinstance(node, ast.Call):  # frozenset({...})
            return frozenset(ast.literal_eval(node.args[0]))
        return ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, IndexError) as error:
        raise ConfigError(
            f"{where}: must be a plain literal, such as a frozenset({{...}})"
        ) from error


def allowed_distributions(pruner: dict[str, Any], pattern: str) -> tuple[str, ...]:
    """The distributions that a method can have with a pattern, its own first."""
    form = PATTERNS[pattern]
    allowed = form.distributions
    if pruner.get("distributions"):
        allowed = tuple(d for d in allowed if d in pruner["distributions"])
    if declared(pruner["score"]["_target_"])["compared"] == "row" and form.group is None:
        allowed = tuple(d for d in allowed if d == "per_row")
    if pruner.get("cut", "exact") != "exact":
        allowed = tuple(d for d in allowed if d == "global" and pattern == "unstructured")
    own = pruner.get("distribution", "global")
    return tuple(sorted(allowed, key=lambda d: d != own))


def allowed_timings(pruner: dict[str, Any], pattern: str = "unstructured") -> tuple[str, ...]:
    """The timings at which a method's score, masking and pattern can be had."""
    needs = declared(pruner["score"]["_target_"])["needs"]
    fixed = PATTERNS[pattern].sparsity is not None
    return tuple(
        timing
        for timing, supplied in SUPPLIED.items()
        if needs <= supplied
        and pruner.get("masking", "hard") in MASKINGS[timing]
        and not (fixed and timing == "rounds")  # a ladder of sparsities cannot be climbed
    )


def resolve(config: dict[str, Any]) -> None:
    """Settles pattern and distribution of a config, its own or the method's, in both their places.

    Raises: ConfigError when method, timing, pattern, distribution, masking, sparsity and control do
        not go together, naming what does.
    """
    pruner, control = config["pruner"], config["control"]["name"]
    if pruner["timing"] == "none":
        config.update(pattern=None, distribution=None, control={"name": "none"})
        return
    name = pruner["name"]
    pattern = config["pattern"] or pruner["pattern"]
    _one_of("pattern", pattern, PATTERNS)
    for distribution in (config["distribution"], pruner["distribution"]):
        _one_of("distribution", distribution or "global", DISTRIBUTIONS)
    needs = declared(pruner["score"]["_target_"])["needs"]
    if missing := needs - SUPPLIED[pruner["timing"]]:
        raise ConfigError(
            f"pruner={name}: its score needs {', '.join(sorted(missing))}, which timing="
            f"{pruner['timing']} does not supply; {_choices('timing', allowed_timings(pruner))}"
        )
    if pruner["masking"] not in MASKINGS[pruner["timing"]]:
        allowed = _choices("masking", MASKINGS[pruner["timing"]])
        raise ConfigError(
            f"pruner={name}: masking={pruner['masking']} with timing={pruner['timing']}; {allowed}"
        )
    allowed = allowed_distributions(pruner, pattern)
    if not allowed or pruner["timing"] not in allowed_timings(pruner, pattern):
        fitting = [
            p
            for p in PATTERNS
            if allowed_distributions(pruner, p) and pruner["timing"] in allowed_timings(pruner, p)
        ]
        raise ConfigError(
            f"pattern={pattern}: not with pruner={name} (timing {pruner['timing']}); "
            f"{_choices('pattern', fitting)}"
        )
    distribution = config["distribution"] or (
        pruner["distribution"] if pruner["distribution"] in allowed else allowed[0]
    )
    if distribution not in allowed:
        raise ConfigError(
            f"distribution={distribution}: not with pruner={name} and pattern={pattern}; "
            f"{_choices('distribution', allowed)}"
        )
    fixed = PATTERNS[pattern].sparsity
    if fixed is not None and config["sparsity"] not in (0, fixed):
        raise ConfigError(
            f"sparsity={config['sparsity']}: pattern={pattern} fixes it at {fixed} (0 is dense)"
        )
    _check_control(control, pruner, needs, pattern, distribution)
    config.update(pattern=pattern, distribution=distribution)
    pruner.update(pattern=pattern, distribution=distribution)


def _check_control(
    control: str, pruner: dict[str, Any], needs: frozenset[str], pattern: str, distribution: str
) -> None:
    if control == "none":
        return
    reason = ""
    if pruner["timing"] != "before":
        reason = f"pruner={pruner['name']} prunes {pruner['timing']}; controls are for before"
    elif control == "corrupt_labels" and not needs & LABELS:
        reason = f"pruner={pruner['name']} looks at no labels"
    elif control.startswith("quota_swap") and pattern != "unstructured":
        reason = f"pattern={pattern}; allowed is unstructured"
    elif control.startswith("quota_swap") and distribution == "per_row":
        reason = "distribution=per_row, whose layer counts are everyone's"
    if reason:
        raise ConfigError(f"control={control}: {reason}")


def _one_of(key: str, value: str, known: Any) -> None:
    if value not in known:
        raise ConfigError(f"{key}={value}: allowed are {', '.join(known)}")


def _choices(key: str, allowed: Any) -> str:
    return f"{key} can be {', '.join(allowed) or 'none'}"
