"""What a record holds: schema 1 as a closed set of typed fields, beside which more may stand.

Also what no value of a record may be, whatever its name: deeper, longer or larger than anything
that a run writes, or text that would act on a terminal.
"""

from __future__ import annotations

import json
import math
import re
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCHEMA_VERSION = 1
LARGEST = 2**63 - 1  # of whole numbers
DEEPEST = 12  # levels of nesting
LONGEST_NAME, LONGEST_TEXT = 300, 100_000  # characters
#: What moves a cursor, changes the direction of writing, or is no character at all.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Words(NamedTuple):
    """What a field may hold, in words."""

    text: str


Text = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_NAME),
    Words(f"text of 1 to {LONGEST_NAME} characters"),
]
Flag = Annotated[bool, Words("true or false")]
Count = Annotated[int, Field(ge=0, le=LARGEST), Words("a whole number from 0 to 2^63 - 1")]
Number = Annotated[float, Field(allow_inf_nan=False), Words("a finite number")]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), Words("a finite number from 0")]
Fraction = Annotated[float, Field(ge=0, le=1), Words("a number from 0 to 1")]
Scalar = Annotated[bool | int | float | str | None, Words("text, a number, true, false or null")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class GivenMasks(_Part):
    """Masks that a run was given, `from` what: a `run`, told here, or a `file`. What finding them
    has cost is unknown where no record says it.
    """

    from_: Text = Field(alias="from")
    kind: Text
    hash: Text
    example_equivalents: Annotated[Amount | Text, Words("a finite number from 0, or unknown")]


class Sparsity(_Part):
    """Fractions removed: of what was asked for, and of four sets of weights."""

    target: Fraction
    prunable: Fraction | None
    encoder: Fraction | None
    non_embedding: Fraction | None
    model: Fraction | None


class Params(_Part):
    """Counts of weights."""

    prunable: Count | None
    kept: Count | None
    model: Count | None


class Layer(_Part):
    """Counts of one tensor's weights."""

    kept: Count
    total: Count


class Metric(_Part):
    """The main metric; `epoch` says which was chosen."""

    name: Text
    value: Number | None
    higher_is_better: Flag
    split: Text
    epoch: Scalar


class Metrics(_Part):
    """All that was measured, and three numbers about the task."""

    __pydantic_extra__: dict[str, Scalar]
    majority: Number | None = None
    test_examples: Amount | None = None
    train_examples: Amount | None = None


class Seeds(_Part):
    """Seeds beside `seed`: of what a score saw, and of how the data was cut."""

    calibration: Count | None = None
    split: Count = 0


class ExampleEquivalents(_Part):
    """The bill: a forward pass of one example is 1."""

    scoring: Amount | None
    training: Amount | None
    rounds: Amount | None
    start: Amount | None
    tuning: Amount | None = None
    masks: Amount | None = None
    total: Amount | None


class Seconds(_Part):
    """Wall-clock time. `validation` is within `training`."""

    scoring: Amount | None
    training: Amount | None
    validation: Amount | None = None
    evaluation: Amount | None
    total: Amount | None


class Cost(_Part):
    """What the run took."""

    example_equivalents: ExampleEquivalents
    seconds: Seconds
    peak_memory_bytes: Amount | None


_Amounts = Annotated[
    Amount | dict[str, Scalar] | None, Words("a finite number from 0, an object or null")
]


class Efficiency(_Part):
    """What the zeros are worth, as far as it was measured."""

    macs: _Amounts = None
    bytes: _Amounts = None
    latency: _Amounts = None
    layers: Annotated[list[dict[str, Scalar]], Words("a list of objects")] | None = None


class Environment(_Part):
    """Versions, code and hardware."""

    versions: Annotated[dict[str, Scalar], Words("an object")] | None
    git: Scalar
    hardware: Scalar
    threads: Scalar
    deterministic: Scalar


class Written(_Part):
    """A file as it was written."""

    bytes: Count
    sha256: Text


class Integrity(_Part):
    """The seal: SHA-256 of the record but for this entry itself, and of the run's files."""

    record: Text
    files: Annotated[dict[str, Written], Words("an object of {bytes, sha256}")] = {}


class Record(_Part):
    """`result.json`. Every field must be present but `integrity`; more may stand beside them."""

    schema_version: Count
    run_id: Text
    cell_id: Text
    task: Text
    model: Text
    start: Text
    pruner: Text
    timing: Text | None
    distribution: Text | None
    pattern: Text | None
    control: Text | None
    finetune: Text | None
    seed: Count
    seeds: Seeds | None = None
    sparsity: Sparsity
    params: Params
    layers: (
        Annotated[dict[str, Layer], Words("an object of {kept, total} counts with kept <= total")]
        | None
    )
    metric: Metric
    metrics: Metrics
    validation: Annotated[dict[str, dict[str, Scalar]], Words("an object of objects")] | None = None
    mask_hash: Text | None
    recipe: Annotated[dict[str, Any], Words("an object")] | None = None
    small: Annotated[dict[str, Any], Words("an object")] | None = None
    masks: GivenMasks | None = None
    left_out: Annotated[list[Text], Words("a list of texts")] | None = None
    cost: Cost
    efficiency: Efficiency | None
    environment: Environment
    integrity: Integrity | None = None


def _words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    for entry in (*metadata, *getattr(annotation, "__metadata__", ())):
        if isinstance(entry, Words):
            return entry.text
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_words, get_args(annotation)))
    return "null" if annotation is NoneType else "an object"


def _parts(annotation: Any) -> type[_Part] | None:
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, _Part):
            return choice
    return None


def _list_fields(model: type[_Part], prefix: str = "") -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, field in model.model_fields.items():
        name = field.alias or key
        fields[f"{prefix}{name}"] = _words(field.annotation, tuple(field.metadata))
        if (part := _parts(field.annotation)) is not None:
            fields |= _list_fields(part, f"{prefix}{name}.")
    return fields


#: Every field with what it may hold, in words: `cost.seconds.total`: "a finite number from 0".
FIELDS = _list_fields(Record)
#: Those that are numbers in a table, missing ones included.
NUMERIC = tuple(
    name
    for name in FIELDS
    if name.startswith(("sparsity.", "params.", "cost.")) or name in ("seed", "metric.value")
    if FIELDS[name] != "an object"
)


def find_problem(record: Any) -> str | None:
    """The first thing wrong with a parsed record, in one line; None where it is sound."""
    if not isinstance(record, dict):
        return f"holds a {type(record).__name__} instead of an object"
    if "schema_version" not in record:
        return "schema_version is missing"
    version = record["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        return f"has schema_version {show(version)}; this reader knows {SCHEMA_VERSION}"
    try:
        parsed = Record.model_validate(record)
        _scan({**record, "layers": list(record["layers"] or ())}, 1)  # its counts are checked
    except ValidationError as error:
        return _tell(error)
    except _OddError as odd:
        return str(odd)
    costs = (parsed.cost, parsed.cost.seconds, parsed.cost.example_equivalents)
    for part in (parsed, parsed.sparsity, parsed.params, parsed.metric, *costs):
        if dotted := [key for key in part.model_extra or () if "." in key]:
            return f"has a field named {show(dotted[0])}: names here hold no dot"
    for name, layer in (record["layers"] or {}).items():
        if layer["kept"] > layer["total"]:
            return f"layers is {show({name: layer})}, expected {FIELDS['layers']}"
    kept, prunable = record["params"]["kept"], record["params"]["prunable"]
    if kept is not None and prunable is not None and kept > prunable:
        return f"params.kept is {kept}, more than params.prunable, {prunable}"
    return None


def find_odd(value: Any) -> str | None:
    """What no value that a run writes may be, in one line: text that acts on a terminal or is none,
    numbers that are not finite or too large, nesting without end. None where it is sound.
    """
    try:
        _scan(value, 1)
    except _OddError as odd:
        return str(odd)
    return None


def _tell(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = [str(part) for part in first["loc"]]
    while place and ".".join(place) not in FIELDS:
        place.pop()
    name = ".".join(place) or ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{'.'.join(map(str, first['loc']))} is missing"
    if name == "metrics" and len(first["loc"]) > 1:
        name, words = f"metrics.{first['loc'][1]}"[:120], "text, a number, true, false or null"
    else:
        words = FIELDS.get(name, "another value")
    return f"{name} is {show(first['input'])}, expected {words}"


class _OddError(Exception):
    """Something that no record may hold; `place` is filled in on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.place: list[str] = []

    def __str__(self) -> str:
        place = ".".join(reversed(self.place))
        return f"{place[:120] or 'it'} {self.args[0]}"


def _scan(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        if len(value) > LONGEST_TEXT or not value.isprintable():
            _scan_text(value, LONGEST_TEXT, "is")
    elif kind is dict or kind is list:
        if depth > DEEPEST:
            raise _OddError(f"is nested deeper than {DEEPEST}")
        items: Any = value.items() if kind is dict else enumerate(value)
        for key, item in items:
            if kind is dict and (len(key) > LONGEST_NAME or not key.isprintable()):
                _scan_text(key, LONGEST_NAME, "has the key")
            try:
                _scan(item, depth + 1)
            except _OddError as odd:
                odd.place.append(str(key))
                raise
    elif kind is float:
        if not math.isfinite(value):
            shown = "NaN" if math.isnan(value) else "infinite"
            raise _OddError(f"is {shown}, expected a finite number")
    elif kind is int and not -LARGEST <= value <= LARGEST:
        raise _OddError("is too large a number")


def _scan_text(text: str, longest: int, what: str) -> None:
    if len(text) > longest:
        reason = f"of {len(text):,} characters: {longest:,} are allowed"
    elif _ACTING.search(text):
        reason = "which holds a control character or half of one"
    else:
        return
    raise _OddError(f"{what} {show(text)}, {reason}")


def show(value: Any) -> str:
    """A value as JSON on one line, in ASCII, at most 40 characters."""
    if isinstance(value, str):
        value = value[:60]
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."
