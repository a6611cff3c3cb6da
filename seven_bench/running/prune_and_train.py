"""A method at work: before training, during it, or on what a round below has left."""

from __future__ import annotations

from dataclasses import asdict, replace

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, reachable_count
from seven_bench.pruning.pruner import Settled
from seven_bench.pruning.structure import CoupledBiases
from seven_bench.pruning.units import Structure
from seven_bench.running.job import Cost, Job
from seven_bench.running.rounds import begin_at_rewound_step, keep_step, prune_below
from seven_bench.running.scope import pattern_of
from seven_bench.running.scoring import pruner_during, score_and_prune
from seven_bench.training.billing import WHOLE, count_forward, count_step, freezes
from seven_bench.training.checkpoint import readable
from seven_bench.training.fit import Trained, fit
from seven_bench.training.pruning_callback import PruningCallback
from seven_bench.training.start import prepare
from seven_bench.training.zero_shot import zero_shot


def train_pruned(job: Job) -> tuple[Trained, Cost]:
    """Prunes and trains as the run's method says.

    Raises: ConfigError on a schedule that cannot finish. ValueError when training diverges, or a
        method did not do what it was asked.
    """
    settings, module, checkpoint = job.settings, job.module, job.context.checkpoint
    timing, masks, cost = settings.pruner.timing, MaskSet.ones(job.params), Cost()
    pattern = _check_pattern(job, masks)
    biases = CoupledBiases(module.model, pattern) if isinstance(pattern, Structure) else None
    saved = readable(checkpoint.path) if checkpoint is not None else None
    earlier = saved["seven_bench"] if saved is not None else {}
    untrained: dict[str, float] = earlier.get("zero_shot", {})
    if saved is None:
        untrained |= _zero_shot(job, "dense")

    during = pruner_during(job) if timing == "during" else None
    if during is None and saved is not None:  # scored in an earlier life of this run
        cost = Cost(**earlier["scoring"])
    elif timing == "before":
        masks, cost = score_and_prune(job)
        untrained |= _zero_shot(job, "pruned")
    elif job.below is not None:
        masks, cost = prune_below(job, job.below)
    if checkpoint is not None:
        checkpoint.scoring, checkpoint.zero_shot = asdict(cost), untrained

    begin_at_rewound_step(job)
    prepare(module, settings, masks, job.params if during else {}, job.dense)
    callback = PruningCallback(job.params, during or Settled(masks), biases)
    context = replace(job.context, callbacks=[*job.context.callbacks, *keep_step(job)])
    trained = fit(module, job.data, callback, context)
    frozen, passes = freezes(module), WHOLE
    spent = count_step(module, job.data) if frozen else 0
    module.remove_adapters()  # a forward pass is that of the plain model
    if frozen:
        passes = spent / count_forward(module, job.data)
    passes += module.finetune.distill  # a teacher looks at every example too
    return replace(trained, passes=passes, zero_shot=untrained), cost


def _check_pattern(job: Job, masks: MaskSet) -> str | Structure:
    """What the run removes. Raises ConfigError when it does not cover the weights."""
    settings = job.settings
    pattern = pattern_of(settings, job.module.model)
    try:
        reachable_count(masks, settings.sparsity, pattern)
    except ValueError as error:
        raise ConfigError(f"pattern={settings.pattern}: {error}") from error
    return pattern


def _zero_shot(job: Job, name: str) -> dict[str, float]:
    """What CLIP scores before it is trained on the task; nothing of other models, small or not."""
    settings = job.settings
    small = settings.pruner.small is not None
    if settings.task.kind != "clip" or settings.start.kind == "dense" or small:
        return {}
    return zero_shot(job.module, job.data, job.context.device, name)
