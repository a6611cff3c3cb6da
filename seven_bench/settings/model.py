"""The settings of a run. Ranges, choices and defaults stand here, and beside each key its role.

What `conf/` states has no default here; what only some tasks, models, methods or strategies have,
does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_serializer, model_validator

from seven_bench.pruning.control_names import CONTROLS
from seven_bench.pruning.distributions import DISTRIBUTIONS
from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.patterns import PATTERNS
from seven_bench.settings.node import Node, Role, Target

COLUMN, METHOD, RECIPE, NAMING, PLACE = Role
LONGEST = 100  # characters of a name

Kind = Literal["image", "text", "clip"]
Timing = Literal["none", "before", "during", "rounds", "after"]
Examples = Annotated[int, Field(ge=1, le=10**9)]
BatchSize = Annotated[int, Field(ge=1, le=2**20)]
Epochs = Annotated[int, Field(ge=1, le=10**6)]
Rate = Annotated[float, Field(ge=0, le=1e30)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def as_folder(name: str) -> str:
    """A name as the name of a folder: `/` becomes `-`.

    Raises: ValueError in words when a path could leave its place by it, or could not be printed.
    """
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or len(name) > LONGEST:
        raise ValueError(f"a printable name without \\, up to {LONGEST} characters")
    if any(part.strip() in ("", ".", "..") for part in parts):
        raise ValueError("a name, which may have / inside, but no empty part, . or ..")
    return "-".join(parts)


def _name(value: str) -> str:
    as_folder(value)
    return value


def _path(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("a path")
    return value


def _within(value: str) -> str:
    """A path below another."""
    if value.startswith(("/", "~")) or "\\" in value or ".." in value.split("/"):
        raise ValueError("a path below data_root or a package, without ..")
    return _path(value)


def _hub(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", value):
        raise ValueError("a name on the hub, owner/name")
    return value


def _package(value: str) -> str:
    if not value.isidentifier():  # a dotted one would be imported to be found
        raise ValueError("the name of a package, without dots")
    return value


def _texts(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_path, value))


def _columns(value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if isinstance(value, tuple) and len(value) not in (1, 2):
        raise ValueError("one column of texts, or two")
    return value


def _regex(value: str | None) -> str | None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return value


def _shard(value: str | None) -> str | None:
    shard_of(value)
    return value


def shard_of(text: str | None) -> tuple[int, int]:
    """Which part of how many, from 0; (0, 1) is all.

    Raises: ValueError in words when it is not "i/n".
    """
    if text is None:
        return 0, 1
    found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError("i/n with i from 1 to n, such as 1/4, or null")
    return int(found[1]) - 1, int(found[2])


Name = Annotated[str, AfterValidator(_name)]
Folder = Annotated[str, AfterValidator(_path)]
Below = Annotated[str, AfterValidator(_within)]
PackageName = Annotated[str, AfterValidator(_package)]
HubName = Annotated[str, AfterValidator(_hub)]
Texts = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_texts)]
Three = Annotated[tuple[float, float, float], Field(strict=False)]


class Package(Node):
    """Files inside an installed package, or else on the hub, if they are there."""

    package: PackageName
    folder: Below
    hub: HubName | None = None


Weights = Folder | Package | None


class Source(Node):
    """Where a task's data is: `files` below `data_root` or `hub`; or `file` of a `package`; or, by
    split, files and folders of one's `own`.
    """

    hub: HubName | None = None
    config: Name | None = None
    files: dict[str, Below] = Field(default={})
    package: PackageName | None = None
    file: Below | None = None
    own: dict[Literal["train", "validation", "test"], Folder | None] | None = None


class Data(Node):
    """`split_seed` decides which examples are held out for validation, and of a task in folds which
    fold is scored; an official test or dev set is the same for all. The others are data of one's
    own, for the tasks that have none: files or folders by split, and columns. What is not given of
    validation and test is a part of train.
    """

    split_seed: Annotated[Seed, COLUMN] = 0
    train: Annotated[Folder | None, NAMING] = None
    validation: Annotated[Folder | None, NAMING] = None
    test: Annotated[Folder | None, NAMING] = None
    text: Annotated[str | Texts | None, AfterValidator(_columns), NAMING] = None
    label: Annotated[str | None, NAMING] = None
    image: Annotated[str | None, NAMING] = None
    regression: Annotated[bool, NAMING] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of texts, one or two."""
        return (self.text,) if isinstance(self.text, str) else self.text or ()


class Budget(Node):
    """How long a start, or what follows it, is trained."""

    max_epochs: Epochs
    lr: Rate
    batch_size: BatchSize


class StoredImage(Node):
    """Images as a task stores them; a model's `image.size` is what it is given."""

    size: Annotated[int, Field(ge=1, le=2**14)]
    channels: Annotated[int, Field(ge=1, le=64)]
    patch: Annotated[int, Field(ge=1, le=2**14)]


class ModelImage(Node):
    """Images as a model is given them: pixels of a side, mean and deviation of each colour."""

    size: Annotated[int, Field(ge=1, le=2**14)]
    mean: Three
    std: Three


class Metric(Node):
    """The metric that stands in tables."""

    name: Annotated[Name, COLUMN]
    higher_is_better: Annotated[bool, COLUMN]
    split: Annotated[Literal["test", "dev"], COLUMN] = "test"


class Task(Node):
    """What is learned, from what, and how it is measured. `labels` are the names of the classes of
    data of one's own; `name_from` says that the name is a file's and not a choice: it is shown, and
    the run is known by the data alone.
    """

    name: Annotated[Name, COLUMN]
    name_from: Annotated[Literal["file"] | None, NAMING] = None
    kind: Annotated[Kind, NAMING]
    head: Annotated[Literal["classification", "span"] | None, NAMING] = None
    data: Annotated[Target, RECIPE]
    module: Annotated[Target, RECIPE]
    source: Annotated[Source, NAMING]
    classes: Annotated[int, Field(ge=1, le=10**6), NAMING]
    labels: Annotated[Texts | None, NAMING] = None
    image: Annotated[StoredImage | None, NAMING] = None
    max_length: Annotated[int | None, Field(ge=1, le=10**6), NAMING] = None
    stride: Annotated[int | None, Field(ge=1, le=10**6), NAMING] = None
    train_examples: Annotated[int | None, Field(ge=2, le=10**9), NAMING] = None
    group_by_length: Annotated[bool | None, NAMING] = None
    metric: Metric
    threads: Annotated[int | None, Field(ge=1, le=4096), NAMING]
    recipe: Annotated[dict[Literal["init", "pretrained", "after_start"], Budget], NAMING]


class Model(Node):
    """What is pruned."""

    name: Annotated[Name, COLUMN]
    kind: Annotated[Kind, NAMING]
    pretrained: Annotated[Weights, NAMING]
    start: Annotated[Literal["init", "pretrained"], NAMING]
    tokenizer: Annotated[Weights, NAMING] = None
    vocabulary: Annotated[int | None, Field(ge=5, le=10**7), NAMING] = None
    pad_to: Annotated[int | None, Field(ge=1, le=10**6), NAMING] = None  # tokens, of every prompt
    image: Annotated[ModelImage | None, NAMING] = None
    build: Annotated[Target, RECIPE]


#: What trials may choose: how weights are trained, and a method's own numbers.
TUNABLE = r"trainer\.\w+|pruner\.(score|schedule)\.\w+"
Tunable = Annotated[str, Field(pattern=f"^({TUNABLE})$")]
Stretch = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?(it|ep)$")]


class Augment(Node):
    """How training images are changed, each in its own way every epoch. `randaugment` as timm
    writes it; `mixup`: alpha of its Beta distribution.
    """

    flip: Annotated[bool, RECIPE] = False
    crop: Annotated[Literal["padded", "resized"] | None, RECIPE] = None
    randaugment: Annotated[
        str | None, Field(pattern=r"^rand(-[a-z]{1,4}[0-9]{1,4}(\.[0-9]{1,4})?){1,8}$"), RECIPE
    ] = None
    mixup: Annotated[float, Field(ge=0, le=100), RECIPE] = 0.0

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self != Augment()


class Trainer(Node):
    """How weights are trained. `threads` null: all cores; no epochs: pruned and measured alone."""

    max_epochs: Annotated[int, Field(ge=0, le=10**6), RECIPE]
    max_steps: Annotated[int | None, Field(ge=1, le=10**9), RECIPE]
    lr: Annotated[Rate, RECIPE]
    batch_size: Annotated[BatchSize, RECIPE]
    optimizer: Annotated[Literal["adamw", "adamax", "sgd"], RECIPE]
    weight_decay: Annotated[float, Field(ge=0, le=1000), RECIPE]
    momentum: Annotated[float, Field(ge=0, lt=1), RECIPE]
    lr_schedule: Annotated[Literal["linear", "cosine", "constant"], RECIPE]
    lr_floor: Annotated[float, Field(ge=0, le=1), RECIPE] = 0.0
    lr_replay: Annotated[tuple[Stretch, ...] | None, Field(strict=False, min_length=1), RECIPE] = (
        None
    )
    warmup: Annotated[float, Field(ge=0, le=1), RECIPE]
    gradient_clip: Annotated[float | None, Field(ge=0, le=10**9), RECIPE]
    accumulate: Annotated[int, Field(ge=1, le=2**20), RECIPE]
    augment: Augment = Augment()
    precision: Annotated[Literal["32-true", "bf16-mixed", "16-mixed"], RECIPE]
    compile: Annotated[bool, RECIPE] = False
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], RECIPE]
    devices: Annotated[int, Field(ge=1, le=1024), RECIPE]
    threads: Annotated[int | None, Field(ge=1, le=4096), RECIPE]
    deterministic: Annotated[bool, RECIPE]
    # of a run's identity where it chooses: see identity._add_validation
    validate_every: Annotated[int | None, Field(ge=1, le=10**6), PLACE] = 1
    checkpoint_every: Annotated[float, Field(ge=0, le=10**9), PLACE]


class Start(Node):
    """The weights that a run begins from. A dense start, and what it begins `from_`, enter by the
    identity of that run; pretrained weights by their content. `train`: how a dense run is trained.
    """

    kind: Annotated[Literal["init", "pretrained", "dense"], COLUMN]
    from_: Annotated[Literal["init", "pretrained"], NAMING] = Field(alias="from")
    weights: Annotated[Weights, NAMING] = None
    budget: Annotated[Budget | None, NAMING] = None
    train: Trainer | None = None

    @property
    def pretrained(self) -> bool:
        """Whether it, or the dense run that it stands for, begins from pretrained weights."""
        return "pretrained" in (self.kind, self.from_ if self.kind == "dense" else None)


class Finetune(Node):
    """Which weights are trained, and towards what. LoRA has `rank` and `alpha`, LLRD `decay`."""

    name: Annotated[Literal["full", "linear_probe", "bitfit", "lora", "llrd"], COLUMN]
    rank: Annotated[int | None, Field(ge=1, le=2**16), RECIPE] = None
    alpha: Annotated[float | None, Field(gt=0, le=10**6), RECIPE] = None
    decay: Annotated[float | None, Field(ge=0, le=1), RECIPE] = None
    distill: Annotated[bool, RECIPE]
    distill_weight: Annotated[float, Field(ge=0, le=1), RECIPE]
    temperature: Annotated[float, Field(gt=0, le=10**6), RECIPE]


class Calibration(Node):
    """The examples that a score sees at rest; `temperature` divides the logits."""

    examples: Annotated[Examples, METHOD]
    batch_size: Annotated[BatchSize, METHOD]
    temperature: Annotated[float | None, Field(ge=1e-3, le=10**6), METHOD] = None

    @property
    def batches(self) -> int:
        return -(-self.examples // self.batch_size)


class CalibrationDraw(Node):
    """Which examples a score sees at rest. `seed` null: it follows the run's."""

    seed: Annotated[Seed | None, COLUMN] = None


class Rounds(Node):
    """`fraction` of what remains, or `of` all there was at the start, goes in each round (null: the
    target at once); `rewind` is "start", a time like "100it" or null.
    """

    fraction: Annotated[float | None, Field(gt=0, lt=1), METHOD]
    rewind: Annotated[str | None, METHOD]
    of: Annotated[Literal["remaining", "start"], METHOD] = "remaining"


if TYPE_CHECKING:
    PatternName = str
    DistributionName = str
    NeedName = str
    ControlName = str
else:  # a new pattern, distribution, need or control is a row of its table and nothing here
    PatternName = Literal[tuple(PATTERNS)]
    DistributionName = Literal[tuple(DISTRIBUTIONS)]
    NeedName = Literal[tuple(NEEDS)]
    ControlName = Literal[tuple(CONTROLS)]
Parts = Annotated[tuple[Literal["pooler", "patch_embedding"], ...], Field(strict=False)]


class Small(Node):
    """A control that trains a small dense model: of less `width` from random weights, or of less
    `depth`, layers of the start's chosen evenly. `match`: what it has as much of as is kept.
    """

    kind: Annotated[Literal["width", "depth"], METHOD]
    match: Annotated[Literal["params", "macs"], METHOD] = "params"


class Prunable(Node):
    """What may be removed: the encoder's linear weights and the parts that `include` names. With
    `pattern`, a regular expression, the weights in whose names it is found take the place of the
    encoder's. A list stands for what it includes, and is how a node without a pattern is written.
    """

    include: Parts = ()
    pattern: Annotated[str | None, Field(min_length=1), AfterValidator(_regex)] = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"include": value} if isinstance(value, list | tuple) else value

    @model_serializer
    def _as_list(self) -> Any:
        include = list(self.include)
        return include if self.pattern is None else {"include": include, "pattern": self.pattern}


class Pruner(Node):
    """A method. `pattern` and `distribution` are its own, for a run that asks for no others;
    `distributions` (null: all) are those that its score allows. `needs` and `compared` are what the
    score's class says of itself: what it is shown, and where its scores can be held against others.
    `tune`: what of it `seven-bench tune` varies, and in what space (`settings.space`). `masks`: of
    a method that is given them, where they lie, a pattern that one path matches; they count by
    content and by the run that found them (`settings.given_masks`). `masks_name`: what tables call
    them.
    """

    name: Annotated[Name, COLUMN]
    timing: Annotated[Timing, COLUMN]
    needs: Annotated[tuple[NeedName, ...], Field(strict=False), NAMING] = ()
    compared: Annotated[Literal["network", "row"], NAMING] = "network"
    score: Annotated[Target | None, METHOD] = None
    schedule: Annotated[Target | None, METHOD] = None
    calibration: Calibration | None = None
    distribution: Annotated[DistributionName, NAMING] = "global"
    distributions: Annotated[
        tuple[DistributionName, ...] | None, Field(strict=False, min_length=1), NAMING
    ] = None
    pattern: Annotated[PatternName, NAMING] = "unstructured"
    cut: Annotated[Literal["exact", "threshold", "above_zero"], METHOD] = "exact"
    observe_at: Annotated[Literal["before_step", "after_step"], METHOD] = "before_step"
    rescore: Annotated[bool, METHOD] = False
    prunable: Annotated[Parts, METHOD] = ()
    masking: Annotated[Literal["hard", "rewire", "regrow", "straight_through"], METHOD] = "hard"
    begin: Annotated[Literal["dense", "random"], METHOD] = "dense"
    takes_step: Annotated[bool, METHOD] = False
    tune: Annotated[dict[str, Any], NAMING] = Field(default={})
    masks: Annotated[Folder | None, NAMING] = None
    masks_name: Annotated[Name | None, NAMING] = None
    rounds: Rounds | None = None
    small: Small | None = None


class Control(Node):
    """What is exchanged, to see what in a mask matters."""

    name: Annotated[ControlName, COLUMN]


class Logger(Node):
    """Where curves go beside metrics.csv."""

    name: Literal["none", "wandb"]
    project: Name = "seven_bench"
    entity: Name | None = None
    mode: Literal["offline", "online", "disabled"] | None = None
    tags: Texts = ()
    every: Annotated[int, Field(ge=1, le=10**9)] = 50


class Tuning(Node):
    """How settings were chosen, for a run that `seven-bench tune` has written: by so many trials in
    a space of settings. What was `chosen` is then no recipe of its own: methods tuned alike are
    held against each other. `examples`: what the trials cost, in example equivalents.
    """

    trials: Annotated[int, Field(ge=0, le=10**6), RECIPE] = 0
    space: Annotated[Name | None, RECIPE] = None
    chosen: Annotated[tuple[Tunable, ...], Field(strict=False), RECIPE] = ()
    examples: Annotated[float, Field(ge=0, le=1e30), RECIPE] = 0.0


class Settings(Node):
    """All settings of a run, resolved. `pattern` and `distribution` are those that are used; they
    are null for a run that prunes nothing.
    """

    sparsity: Annotated[
        float, Field(ge=0, lt=1, description="the fraction of weights to remove"), COLUMN
    ]
    pattern: Annotated[PatternName | None, COLUMN]
    distribution: Annotated[DistributionName | None, COLUMN]
    seed: Annotated[Seed, COLUMN]
    calibration: CalibrationDraw = CalibrationDraw()
    tuning: Tuning = Tuning()
    prunable: Annotated[Prunable, METHOD]
    select: Annotated[Literal["best", "last"], COLUMN]
    data_root: Annotated[Folder | None, PLACE]
    output_root: Annotated[Folder, PLACE]
    suite: Annotated[Name, PLACE]
    objective: Annotated[Name | None, PLACE] = None
    plugins: Annotated[tuple[PackageName, ...], Field(strict=False), PLACE] = ()
    progress: Annotated[bool, PLACE]
    dry_run: Annotated[bool, PLACE]
    retry_failed: Annotated[bool, PLACE]
    shard: Annotated[str | None, AfterValidator(_shard), PLACE]
    debug: Annotated[bool, RECIPE] = False
    data: Data = Data()
    task: Task
    model: Model
    finetune: Finetune
    trainer: Trainer
    start: Start  # behind trainer, some of which it repeats: an error names what was typed
    pruner: Pruner
    control: Control
    logger: Annotated[Logger, PLACE]
