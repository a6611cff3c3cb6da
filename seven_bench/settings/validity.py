"""What goes with what: scores, timings, patterns, distributions, masking, controls.

All of it follows from what the parts declare: a method in its YAML, a need in its row, a pattern in
its own. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from seven_bench.errors import ConfigError
from seven_bench.pruning.control_names import CONTROLS
from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.patterns import PATTERNS
from seven_bench.pruning.schedules import steps_of
from seven_bench.settings.building import build
from seven_bench.settings.model import CalibrationDraw, Control, Pruner, Settings, Task

MASKINGS = {  # by timing
    "before": ("hard", "regrow"),
    "during": ("hard", "rewire", "regrow", "straight_through"),
    "rounds": ("hard",),
    "after": ("hard", "regrow"),
}
MOST_ROUNDS = 100
RANKED = ("invert", "quota_swap_reverse")  # controls that look at which weight scores more
#: What a task's module measures, where its settings do not name it (`metrics`); and the loss.
MEASURED = {
    "seven_bench.training.vision.VisionModule": ("accuracy",),
    "seven_bench.training.clip.ClipModule": ("accuracy",),
    "seven_bench.training.text.SpanModule": ("exact_match", "f1"),
}
TOP5 = ("accuracy_top5",)  # measured of more than a hundred classes


def allowed_distributions(pruner: Pruner, pattern: str) -> tuple[str, ...]:
    """The distributions that a method can have with a pattern, its own first."""
    form = PATTERNS[pattern]
    allowed = form.distributions
    if pruner.distributions:
        allowed = tuple(d for d in allowed if d in pruner.distributions)
    if pruner.compared == "row" and form.group is None:
        allowed = tuple(d for d in allowed if d == "per_row")
    if pruner.cut != "exact":
        allowed = tuple(d for d in allowed if d == "global" and pattern == "unstructured")
    return tuple(sorted(allowed, key=lambda d: d != own_distribution(pruner)))


def own_distribution(pruner: Pruner) -> str:
    """What a method has where it is asked for no other: if it says only what it allows, the first
    of that.
    """
    if pruner.distributions and pruner.distribution not in pruner.distributions:
        return pruner.distributions[0]
    return pruner.distribution


def allowed_timings(pruner: Pruner, pattern: str = "unstructured") -> tuple[str, ...]:
    """The timings at which a method's score, masking and pattern can be had."""
    fixed = PATTERNS[pattern].sparsity is not None
    return tuple(
        timing
        for timing, maskings in MASKINGS.items()
        if not unsupplied(pruner, timing)
        and pruner.masking in maskings
        and not (fixed and timing == "rounds")  # a ladder of sparsities cannot be climbed
    )


def takes_masks(pruner: Pruner) -> bool:
    """Whether a method's masks are another run's, or a file's."""
    return any(NEEDS[need].given for need in pruner.needs)


def unsupplied(pruner: Pruner, timing: str) -> list[str]:
    """What a score needs and is not shown at a timing: a model under training shows little, and
    masks that are given are there before it, at one sparsity.
    """
    unseen = {n for n in pruner.needs if timing == "during" and not NEEDS[n].under_training}
    return sorted(unseen | {n for n in pruner.needs if timing != "before" and NEEDS[n].given})


def resolve(settings: Settings) -> Settings:
    """Settings in which pattern and distribution are settled: those asked for, or the method's own.

    Raises: ConfigError when method, timing, pattern, distribution, masking, sparsity and control do
        not go together, naming what does.
    """
    pruner, settings = settings.pruner, _without_idle_seed(settings)
    if pruner.timing == "none":
        _check_empty(pruner)
        _check_small(settings)
        resolved = unpruned(settings, pruner)
        kept = {"sparsity": settings.sparsity if pruner.small is not None else 0.0}
        return resolved.model_copy(update=kept)
    if pruner.small is not None:
        raise ConfigError(
            f"pruner.small: pruner={pruner.name} has timing={pruner.timing}; a small dense model "
            "is pruned at no time: allowed is timing=none"
        )
    pattern, distribution = composition(
        pruner, settings.pattern, settings.distribution, settings.sparsity
    )
    _check_units(settings, pattern)
    _check_control(settings.control.name, pruner, pattern, distribution)
    _check_rounds(pruner, settings.sparsity)
    return settings.model_copy(update={"pattern": pattern, "distribution": distribution})


def composition(
    pruner: Pruner, pattern: str | None, distribution: str | None, sparsity: float
) -> tuple[str, str]:
    """The pattern and the distribution that a method prunes with: those asked for, or its own.

    Raises: ConfigError as `resolve` does.
    """
    check_whole(pruner)
    _check_timing(pruner)
    pattern = pattern or pruner.pattern
    allowed = _distributions_of(pruner, pattern)
    own = own_distribution(pruner)
    distribution = distribution or (own if own in allowed else allowed[0])
    if distribution not in allowed:
        raise ConfigError(
            f"distribution={distribution}: not with pruner={pruner.name} and pattern={pattern}; "
            f"{_choices('distribution', allowed)}"
        )
    fixed = PATTERNS[pattern].sparsity
    if fixed is not None and sparsity not in (0, fixed):
        raise ConfigError(
            f"sparsity={sparsity:g}: pattern={pattern} fixes it at {fixed} (0 is dense)"
        )
    return pattern, distribution


def _without_idle_seed(settings: Settings) -> Settings:
    """A seed of calibration that changes nothing is none: what no score sees, or what follows."""
    idle = settings.pruner.calibration is None or settings.calibration.seed == settings.seed
    return settings.model_copy(update={"calibration": CalibrationDraw()}) if idle else settings


def unpruned(settings: Settings, dense: Pruner) -> Settings:
    """The settings of the run that removes nothing: what only pruned runs have is not in it."""
    nothing = {"sparsity": 0.0, "pattern": None, "distribution": None}
    none = {"control": Control(name="none"), "calibration": CalibrationDraw()}
    return settings.model_copy(update={**nothing, **none, "pruner": dense})


def _check_empty(pruner: Pruner) -> None:
    """What prunes nothing has nothing to prune with."""
    for key in ("score", "schedule", "calibration", "rounds"):
        if getattr(pruner, key) is not None:
            raise ConfigError(f"pruner.{key}: pruner={pruner.name} has timing=none, so no {key}")


def _check_small(settings: Settings) -> None:
    """What is trained from random weights has no start to be distilled from but its own."""
    small, dense = settings.pruner.small, settings.start.kind == "dense"
    if small is not None and small.kind == "width" and dense and settings.finetune.distill:
        raise ConfigError(
            f"finetune.distill=true: pruner={settings.pruner.name} with start=dense would need two "
            "dense runs, its own and the teacher; allowed are start=init and start=pretrained"
        )


def check_whole(pruner: Pruner) -> None:
    """What every method that prunes must state."""
    for key in ("needs", "score", "schedule"):
        if not getattr(pruner, key):
            raise ConfigError(
                f"pruner.{key} is missing: pruner={pruner.name} prunes {pruner.timing} training, "
                "so its file has needs, score and schedule"
            )


def _check_timing(pruner: Pruner) -> None:
    name, timing = pruner.name, pruner.timing
    if missing := unsupplied(pruner, timing):
        raise ConfigError(
            f"pruner={name}: its score needs {', '.join(missing)}, which timing={timing} does not "
            f"supply; {_choices('timing', allowed_timings(pruner))}"
        )
    if pruner.masking not in MASKINGS[timing]:
        allowed = _choices("masking", MASKINGS[timing])
        raise ConfigError(
            f"pruner={name}: masking={pruner.masking} with timing={timing}; {allowed}"
        )


def _distributions_of(pruner: Pruner, pattern: str) -> tuple[str, ...]:
    """What a method can have with a pattern at its timing. Raises ConfigError where it is none."""
    fitting = {
        form: allowed
        for form in PATTERNS
        if pruner.timing in allowed_timings(pruner, form)
        and (allowed := allowed_distributions(pruner, form))
    }
    if pattern not in fitting:
        raise ConfigError(
            f"pattern={pattern}: not with pruner={pruner.name} (timing {pruner.timing}); "
            f"{_choices('pattern', fitting)}"
        )
    return fitting[pattern]


def _check_units(settings: Settings, pattern: str) -> None:
    """Units that lie across tensors say by themselves what may be removed."""
    if not PATTERNS[pattern].coupled:
        return
    chosen = {
        "prunable.include": settings.prunable.include,
        "prunable.pattern": settings.prunable.pattern,
        "pruner.prunable": settings.pruner.prunable,
    }
    for key, value in chosen.items():
        if value:
            raise ConfigError(
                f"{key}: not with pattern={pattern}, whose units are what is prunable"
            )


def _check_control(control: str, pruner: Pruner, pattern: str, distribution: str) -> None:
    if control == "none":
        return
    reason = ""
    if pruner.timing not in (timings := CONTROLS[control]):
        reason = f"pruner={pruner.name} prunes {pruner.timing}; controls are for before"
        if timings != ("before",):
            reason = f"pruner={pruner.name} prunes {pruner.timing}; allowed is {', '.join(timings)}"
    elif pruner.rounds is not None and pruner.rounds.rewind != "start":
        reason = f"pruner.rounds.rewind={pruner.rounds.rewind or 'null'}; allowed is start"
    elif control == "corrupt_labels" and not any(NEEDS[need].sees_labels for need in pruner.needs):
        reason = f"pruner={pruner.name} looks at no labels"
    elif takes_masks(pruner) and control in RANKED:
        reason = f"pruner={pruner.name} ranks no weights, it is given a mask"
    elif control.startswith("quota_swap") and pattern != "unstructured":
        reason = f"pattern={pattern}; allowed is unstructured"
    elif control.startswith("quota_swap") and distribution == "per_row":
        reason = "distribution=per_row, whose layer counts are everyone's"
    if reason:
        raise ConfigError(f"control={control}: {reason}")


def check_schedule(pruner: Pruner) -> None:
    """Scoring at rest has the calibration it wants, and the schedule fits into it.

    Raises: ConfigError. A schedule over training is laid over its steps when these are known.
    """
    if pruner.schedule is None:
        return
    try:
        schedule = build(pruner.schedule)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"pruner.{error}") from error
    if pruner.timing == "during":
        return
    shown = [need for need in pruner.needs if need != "weights" and not NEEDS[need].given]
    if shown and pruner.calibration is None:
        raise ConfigError(
            f"pruner.calibration=null: the score of pruner={pruner.name} wants the keys examples "
            "and batch_size (and may have temperature)"
        )
    batches = scoring_steps(pruner)
    try:
        schedule.plan(batches, batches)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"pruner={pruner.name}: {error} (calibration batches)") from error
    if (
        once := [need for need in pruner.needs if NEEDS[need].one_shot]
    ) and schedule.name != "one_shot":
        raise ConfigError(
            f"pruner.schedule={schedule.name}: a score that needs {', '.join(once)} is taken once; "
            "allowed is OneShot"
        )


def check_metric(task: Task, objective: str | None = None) -> None:
    """The metric of tables, and a tuner's, is one that is measured. Raises: ConfigError."""
    known = task.module.arguments.get("metrics") or MEASURED.get(task.module.path)
    if not known:
        return  # a module that is not ours
    if task.classes > 100 and known == ("accuracy",):
        known += TOP5
    if task.metric.name not in (*known, "loss"):
        raise ConfigError(
            f"task.metric.name={task.metric.name}: allowed are {', '.join(known)}, loss"
        )
    if objective is not None and objective not in (*known, "loss"):
        raise ConfigError(f"objective={objective}: allowed are {', '.join(known)}, loss, or null")


def scoring_steps(pruner: Pruner) -> int:
    """Steps of scoring at rest: the calibration batches, or 1 where it looks at none."""
    return pruner.calibration.batches if pruner.calibration is not None else 1


def _check_rounds(pruner: Pruner, sparsity: float) -> None:
    if pruner.timing not in ("rounds", "after"):
        return
    if pruner.rounds is None:
        raise ConfigError(
            f"pruner.rounds=null: pruner={pruner.name} prunes with timing={pruner.timing}; allowed "
            "are the keys fraction and rewind"
        )
    if pruner.rounds.rewind not in (None, "start"):
        try:
            steps_of(pruner.rounds.rewind, 1, 1)
        except ValueError as error:
            raise ConfigError(f"pruner.rounds.rewind: {error}, 'start' or null") from error
    fraction, of_start = pruner.rounds.fraction, pruner.rounds.of == "start"
    if fraction is None:
        return
    ratio = math.log1p(-sparsity) / math.log1p(-fraction)
    count = math.ceil(sparsity / fraction if of_start else ratio)
    if count > MOST_ROUNDS:
        least = -math.expm1(math.log1p(-sparsity) / MOST_ROUNDS)
        least = sparsity / MOST_ROUNDS if of_start else least
        raise ConfigError(
            f"pruner.rounds.fraction={fraction:g}: {count:,} rounds to sparsity={sparsity:g}; "
            f"allowed are {MOST_ROUNDS}, so a fraction from {least:.3g}"
        )


def _choices(key: str, allowed: Iterable[str]) -> str:
    return f"{key} can be {', '.join(allowed) or 'none'}"
