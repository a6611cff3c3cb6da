"""What all settings have in common: frozen, closed to unknown keys, strict in kind.

Beside each key stands what it decides, its `Role`; `by_role` takes settings apart by it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from seven_bench.errors import ConfigError
from seven_bench.settings.renamed import RENAMED

SHOWN = 80  # characters of a value that an error quotes


class Role(Enum):
    """What a key decides."""

    COLUMN = "the result; a column of tables"
    METHOD = "the result: what the method is"
    RECIPE = "the result: on what, how and how long weights are trained, and when they are measured"
    NAMING = "nothing by itself: it says what goes together, or where lies what counts by content"
    PLACE = "nothing: where things go, what is shown, which part of a suite is done"


class Node(BaseModel):
    """A frozen group of settings. No value is turned into another kind: 1 is not true."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )

    def plain(self) -> dict[str, Any]:
        """As a config file has it: dicts, lists, texts, numbers."""
        return self.model_dump(mode="json", by_alias=True)

    def changed(self, **changes: Any) -> Self:
        """A copy with other values, given by name (`trainer__lr=0.1` is `trainer.lr`), checked as
        all values are, but not for what goes with what.

        Raises: ConfigError as `read` does.
        """
        whole = self.plain()
        for name, value in changes.items():
            *path, last = name.split("__")
            node = whole
            for part in path:
                node = node[part]
            node[last] = value.plain() if isinstance(value, Node) else value
        return read(type(self), whole)


N = TypeVar("N", bound=Node)


class Target(Node):
    """A class or function by its full name, and the plain values that it is called with."""

    path: str
    arguments: dict[str, Any] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _from_node(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "path" in value:
            return value
        arguments = {key: item for key, item in value.items() if key != "_target_"}
        if not isinstance(value.get("_target_"), str):
            raise ValueError("a mapping with a _target_, the full name of a class")
        if odd := [key for key in _keys(arguments) if not key.isidentifier() or key[0] == "_"]:
            raise ValueError(f"arguments that are names, which {odd[0]!r} is not")
        path = value["_target_"]
        return {"path": RENAMED.get(path, path), "arguments": arguments}

    @model_serializer
    def _as_node(self) -> dict[str, Any]:
        return {"_target_": self.path, **self.arguments}


def _keys(value: Any) -> list[str]:
    """All keys of nested mappings and lists."""
    if isinstance(value, Mapping):
        return [*map(str, value), *(key for item in value.values() for key in _keys(item))]
    return [key for item in value for key in _keys(item)] if isinstance(value, list) else []


def by_role(node: Node, roles: Collection[Role]) -> dict[str, Any]:
    """The part of settings whose keys have one of the roles, as plain nested values."""
    part: dict[str, Any] = {}
    for name, field in type(node).model_fields.items():
        value, role = getattr(node, name), role_of(field)
        key = field.alias or name
        if role in roles:
            part[key] = as_plain(value)
        elif role is None and isinstance(value, Node) and (below := by_role(value, roles)):
            part[key] = below
    return part


def role_of(field: FieldInfo) -> Role | None:
    """A key's role; None for a group whose keys have roles of their own."""
    return next((extra for extra in field.metadata if isinstance(extra, Role)), None)


def as_plain(value: Any) -> Any:
    """A value of settings as a config file has it."""
    if isinstance(value, Node):
        return value.plain()
    if isinstance(value, tuple | list):
        return [as_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    return value


def read(kind: type[N], plain: Any, prefix: str = "") -> N:
    """Plain values as settings of a kind; `prefix` is where they stand, for messages.

    Raises: ConfigError in one line on the first value that is not allowed.
    """
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(_line(error.errors()[0], kind, prefix)) from error


def misread(kind: type[Node], unresolved: Any) -> str | None:
    """Of a config in which references do not resolve: the first value that is not allowed, whatever
    they would have given, in one line; None where the references themselves are wrong.
    """
    try:
        kind.model_validate(unresolved)
    except ValidationError as error:
        for found in error.errors():
            if found["type"] == "missing" or "${" not in str(found["input"]):
                return _line(found, kind, "")
    return None


def allowed_at(kind: type[Node], key: str) -> str | None:
    """What a dotted key may be, in words; None where there is no such key."""
    node, field = kind, None
    for part in key.split("."):
        if (field := _fields(node).get(part)) is None:
            return None
        node = _node_of(field.annotation) or Node
    return None if field is None else _is_or_are(described(field))


def read_key(kind: type[Node], key: str, value: Any) -> Any:
    """One key's value, checked by itself. Raises: ConfigError as `read` does."""
    field = kind.model_fields[key]
    kind_of: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(kind_of, config=ConfigDict(strict=True))
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(_line({**first, "loc": (key, *first["loc"])}, kind, "")) from error


def _line(error: ErrorDetails, kind: type[Node], prefix: str) -> str:
    """What is wrong: key, value, what is allowed, the nearest name."""
    node, field, path, allowed = kind, None, [], "settings"
    loc = error["loc"]
    for part, after in zip(loc, (*loc[1:], None), strict=True):
        # of a union its branch is told too, of a list the place
        if (found := _fields(node).get(str(part))) is not None:
            field, node = found, _node_of(found.annotation) or Node
            path.append(str(part))
            allowed = described(field)
        elif (
            field is not None
            and get_origin(field.annotation) is dict
            and "[key]" not in (part, after)
        ):
            path.append(str(part))
            allowed = f"the keys {', '.join(_fields(node))}" if _fields(node) else "a text"
    if error["type"] == "extra_forbidden":
        known = sorted(_fields(node))
        path.append(str(error["loc"][-1]))
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{prefix}{'.'.join(path)}: no such key; known are {', '.join(known)}{hint}"
    key = prefix + ".".join(path)
    if error["type"] in ("value_error", "assertion_error"):
        allowed = str(error["ctx"]["error"])
    if error["type"] == "missing":
        return f"{key} is missing: {_is_or_are(allowed)}"
    return f"{key}={shown(error['input'])}: {_is_or_are(allowed)}{_near(error['input'], field)}"


def _is_or_are(allowed: str) -> str:
    several = not allowed.startswith(("a ", "the name", "true", "i/n"))
    return f"allowed {'are' if several else 'is'} {allowed}"


def _near(value: Any, field: FieldInfo | None) -> str:
    choices = _choices(field.annotation) if field is not None else []
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: Any) -> str:
    """A value as it would be typed, short and printable."""
    text = {None: "null", True: "true", False: "false"}.get(value) if _simple(value) else None
    text = text if text is not None else str(value)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _simple(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _fields(node: type[Node]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in node.model_fields.items()}


def _node_of(annotation: Any) -> type[Node] | None:
    """The kind of settings that an annotation holds, be it in a union or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return annotation
    return next(filter(None, map(_node_of, get_args(annotation))), None)


def _holds(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_holds(part, kind) for part in get_args(annotation))


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def described(field: FieldInfo) -> str:
    """What a key may be, in words."""
    annotation = field.annotation
    parts = [part for part in (get_args(annotation) or (annotation,)) if part is not type(None)]
    null = type(None) in get_args(annotation)
    if choices := _choices(annotation):
        words = ", ".join(choices)
        words = f"the keys {words}" if get_origin(annotation) is dict else words
        words = f"a list of {words}" if get_origin(annotation) is tuple else words
        null_words = ", null"
    else:
        words, null_words = _words(annotation, parts, field), ", or null"
    note = f", {field.description}" if field.description else ""
    return f"{words}{note}{null_words if null else ''}"


def _words(annotation: Any, parts: list[Any], field: FieldInfo) -> str:
    bounds = {name: getattr(extra, name) for extra in field.metadata
              for name in ("ge", "gt", "le", "lt") if hasattr(extra, name)}  # fmt: skip
    if int in parts and bounds:
        return f"a whole number from {bounds['ge']} to {bounds['le']}"
    if float in parts:
        low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
        if "ge" in bounds and "le" in bounds:
            return f"a number from {low:g} to {high:g}"
        if low is None or high is None:
            return "a number"
        left, right = "[" if "ge" in bounds else "(", "]" if "le" in bounds else ")"
        return f"a number in {left}{low:g}, {high:g}{right}"
    if bool in parts:
        return "true or false"
    if (node := _node_of(annotation)) is not None:
        words = f"the keys {', '.join(_fields(node))}" if node is not Target else "a _target_"
        return f"a text, or {words}" if _holds(annotation, str) else words
    if get_origin(annotation) is tuple:
        return "a list of texts"
    return "a text"
