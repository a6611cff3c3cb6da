"""What the task modules share: steps, metrics over the whole set, optimizer and schedule."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection

from seven_bench.store.predictions import Predictions
from seven_bench.training.answers import Answers
from seven_bench.training.finetune import (
    Finetune,
    Recipe,
    learning_rate_factor,
    make_optimizer,
    optimizer_steps,
)

if TYPE_CHECKING:
    from seven_bench.training.compiled import Compiled
    from seven_bench.training.lora import Adapters  # peft is slow to import

Batch = dict[str, Any]


class TaskModule(pl.LightningModule):
    """A plain model under training. A task derives from it and gives `logits` and `objective`.

    Args:
        model: the plain timm or transformers model; its names are the state dict's names.
        recipe: how it is trained.
        metrics: torchmetrics that take (predictions, targets), accumulated over the whole set.

    `finetune` says which weights are trained, `adapters` are LoRA's when there are any, and
    `teacher` is the model whose outputs are learned from, when there is one: it is no part of the
    module's state. `shared` names what a batch holds once for all of its examples, and where it is
    `varying` batches differ in shape. `answers` takes
    what is answered to each example of the test set, where somebody wants to keep it.
    """

    shared: ClassVar[tuple[str, ...]] = ()
    varying: ClassVar[bool] = False

    def __init__(self, model: nn.Module, recipe: Recipe, metrics: MetricCollection) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.metrics = nn.ModuleDict(
            {stage: metrics.clone(prefix=f"{stage}/") for stage in ("validation", "test")}
        )
        for metric in self.metrics.modules():
            if isinstance(metric, Metric):
                metric.sync_on_compute = False  # every process evaluates the whole set
        self.loss_sum: Tensor | float = 0.0  # of this epoch's batches
        self.loss_count = 0
        self.further_parts = nn.ModuleList()
        self.finetune = Finetune()
        self.adapters: Adapters | None = None
        self.answers: Answers | None = None
        self.gradient_norm: Tensor | None = None  # of this step, where it was taken already
        self._teacher: list[nn.Module] = []  # in a list: not registered, not saved
        self._compiled: Compiled | None = None

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """What `model` answers to a batch: float32 [b, ...]."""
        raise NotImplementedError

    def objective(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        raise NotImplementedError

    def examples(self, batch: Batch) -> list[Batch]:
        """A batch as batches of one example each."""
        own = {k: v for k, v in batch.items() if torch.is_tensor(v) and k not in self.shared}
        size = len(next(iter(own.values())))
        return [{**batch, **{k: v[i : i + 1] for k, v in own.items()}} for i in range(size)]

    def predictions(self, logits: Tensor, batch: Batch) -> tuple[Any, Any]:
        """The predictions and the targets that the metrics take."""
        return logits, batch["labels"]

    def answered(self, logits: Tensor, predictions: Any, targets: Any) -> Predictions:
        """What a run keeps of a batch, example by example: logits, predictions, targets are those
        of the methods above. Here: of a classification.

        Raises: ValueError where a logit is not finite.
        """
        probabilities = logits.detach().cpu().double().softmax(-1)  # float64: ties stay ties
        return Predictions.of_classes(targets.cpu().numpy(), probabilities.numpy(), "")

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch: what calibration differentiates."""
        return self.objective(self.logits(self.model, batch), batch)

    def add_part(self, metrics: MetricCollection) -> None:
        """Measures one more part of the scored set by itself: rows whose `part` is 1, 2, ..."""
        for metric in metrics.values():
            metric.sync_on_compute = False
        self.further_parts.append(metrics)

    def teach(self, teacher: nn.Module) -> None:
        """Trains towards the outputs of `teacher` as well; it is frozen."""
        self._teacher = [teacher.eval().requires_grad_(False)]

    def plain_state(self) -> dict[str, Tensor]:
        """The effective weights under the plain model's names."""
        if self.adapters is not None:
            return self.adapters.merged_state(self.model)
        return self.model.state_dict()

    def remove_adapters(self) -> None:
        """Makes the model the plain one again; merged weights are to be taken before."""
        if self.adapters is not None:
            self.adapters.remove()
            self.adapters = None

    def on_fit_start(self) -> None:
        self._held = list(self.model.parameters())
        if self.recipe.compile:
            from seven_bench.training.compiled import Compiled  # slow to import

            self._compiled = Compiled(self.model, self.varying)
        for teacher in self._teacher:
            teacher.to(self.device)

    def on_fit_end(self) -> None:
        self._compiled = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with self._compiled.at_work() if self._compiled is not None else nullcontext():
            logits = self.logits(self.model, batch)
        loss = self.objective(logits, batch)
        for teacher in self._teacher:
            with torch.no_grad():
                target = self.logits(teacher, batch)
            share = self.finetune.distill_weight
            loss = (1 - share) * loss + share * self._distance(logits, target)
        weight = self.trainer.datamodule.weight(batch_idx, self.trainer.accumulate_grad_batches)  # type: ignore[attr-defined]
        if weight != 1:
            loss = loss * weight
        self.loss_sum = self.loss_sum + loss.detach().double()
        self.loss_count += 1
        return loss

    def _distance(self, logits: Tensor, target: Tensor) -> Tensor:
        """Hinton et al. 2015, arXiv 1503.02531: KL divergence at a temperature, times its square;
        the squared error where there is a single output.
        """
        if logits.shape[-1] == 1:
            return F.mse_loss(logits, target)
        heat = self.finetune.temperature
        student = F.log_softmax(logits / heat, -1).flatten(0, -2)
        teacher = F.log_softmax(target / heat, -1).flatten(0, -2)
        return heat**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)

    def on_train_epoch_start(self) -> None:
        self.loss_sum, self.loss_count = 0.0, 0

    def on_train_epoch_end(self) -> None:
        """The epoch's mean loss: kept here, for Lightning's own means do not survive a resume."""
        mean = torch.as_tensor(self.loss_sum / self.loss_count, dtype=torch.float32)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/loss", mean.to(self.device), sync_dist=True)
        self.log("train/learning_rate", rate, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_loss"] = [float(self.loss_sum), self.loss_count]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.loss_sum, self.loss_count = checkpoint["train_loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> None:
        logits = self.logits(self.model, batch)
        loss = self.objective(logits, batch)
        predictions, targets = self.predictions(logits, batch)
        parts: Tensor | None = batch.get("part")
        if parts is None:
            self._metrics(stage).update(predictions, targets)
        else:
            every: list[Any] = [self._metrics(stage), *self.further_parts]
            for index, metrics in enumerate(every):
                if bool((chosen := parts == index).any()):
                    metrics.update(predictions[chosen], targets[chosen])
        if stage == "test" and self.answers is not None:
            try:
                answered = self.answered(logits, predictions, targets)
                self.answers.add(answered, None if parts is None else parts == 0)
            except ValueError as error:
                self.answers.fault = str(error)
        self.log(
            f"{stage}/loss",
            loss,
            on_step=False,
            on_epoch=True,
            batch_size=len(targets),
            sync_dist=True,
        )

    def _metrics(self, stage: str) -> MetricCollection:
        metrics: MetricCollection = self.metrics[stage]  # type: ignore[assignment]
        return metrics

    def on_validation_epoch_end(self) -> None:
        self._report([self._metrics("validation")])

    def on_test_epoch_end(self) -> None:
        self._report([self._metrics("test"), *self.further_parts])

    def _report(self, collections: list[Any]) -> None:
        for metrics in collections:
            with warnings.catch_warnings():  # a correlation with a constant: 0, see below
                warnings.filterwarnings("ignore", message=".*variance of predictions or target.*")
                values = metrics.compute()
            metrics.reset()
            finite = {name: torch.nan_to_num(value) for name, value in values.items()}
            self.log_dict(finite, sync_dist=True)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """All gradients: those of weights that are scored but not trained would pile up."""
        for parameter in self._held:  # a walk over the modules costs milliseconds
            parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of all gradients. One that was taken in this step is not taken again.

        Not through Lightning, which refuses every fused optimizer under mixed precision; those that
        unscale by themselves are refused where a run begins (`PruningCallback`).
        """
        norm, self.gradient_norm = self.gradient_norm, None
        if not gradient_clip_val:
            return
        if norm is None:
            trained = (p for group in optimizer.param_groups for p in group["params"])
            torch.nn.utils.clip_grad_norm_(trained, float(gradient_clip_val))
        else:
            torch.nn.utils.clip_grads_with_norm_(self._held, float(gradient_clip_val), norm)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.model, self.recipe, self.finetune)
        # not Lightning's estimate, which would set up the loader before a checkpoint has its place
        total, epoch = optimizer_steps(self.recipe, self.trainer.datamodule.size("train"))  # type: ignore[attr-defined]
        factor = learning_rate_factor(self.recipe, total, epoch)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
