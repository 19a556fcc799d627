"""
The catalogue of events as a contract: what the `data` of each is, in words and as a JSON Schema.

Clients build on it. So every event has an example, which is held against its fields, and what a
schema version promised stands in a lock file, from which nothing may be taken (ADR 0104).
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker

from apps.core import versions
from apps.core.errors import InvariantBroken
from apps.core.events import Event, public_type

# What a field of this name is wherever it stands and says nothing of its own.
COMMON: Final = {
    "id": "What changed.",
    "state": "Its state after the change.",
    "status": "Its status after the change.",
    "customer": "Whose it is.",
    "amount": "In minor units of `currency`.",
    "currency": "ISO 4217.",
    "external_id": "The id that the client gave it.",
    "reference": "The client's own reference.",
    "reason": "Why.",
    "effective_at": "Since when it counts, by the business's own time.",
}
_WORDS: Final[dict[object, str]] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    datetime: "instant",
    date: "date",
    Any: "any",
}
_SCHEMAS: Final[dict[object, dict[str, Any]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    UUID: {"type": "string", "format": "uuid"},
    dict: {"type": "object"},
    Any: {},
}
_FORMATS: Final = FormatChecker(["date", "uuid"])

# By public type: the schema version, the aggregate, and the type of each field by its path.
type Lock = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DataField:
    """One field of an event's data, or of an object in it: its path, its type, what it means."""

    path: str
    hint: Any
    meaning: str

    @property
    def words(self) -> str:
        """Return its type as people read it."""
        return _words(self.hint)


# --- What is declared ---------------------------------------------------------------------------


def explain(kind: type[Event]) -> str:
    """Return what the class says of itself, or the nearest class above that says something."""
    for base in kind.__mro__:
        # A dataclass without a docstring is given its signature for one.
        told = vars(base).get("__doc__") or ""
        if base is not Event and issubclass(base, Event) and not told.startswith(base.__name__):
            return inspect.cleandoc(told)
        if base is Event:
            break
    return ""


def list_fields(kind: type[Event]) -> list[DataField]:
    """Return the fields of the event's data in their order, each before those of objects in it."""
    told: dict[str, str] = {}
    bases: list[type] = [base for base in kind.__mro__ if issubclass(base, Event)]
    for base in reversed(bases):
        told |= _texts_under_fields(base)
    hints = get_type_hints(kind)
    envelope = {field.name for field in fields(Event)}
    return [
        found
        for field in fields(kind)
        if field.name not in envelope
        for found in _unfold(field.name, hints[field.name], told.get(field.name, ""))
    ]


def _unfold(path: str, hint: Any, meaning: str) -> Iterator[DataField]:  # noqa: ANN401  (a type)
    name = path.rpartition(".")[2]
    yield DataField(path, hint, meaning or COMMON.get(name, ""))
    inner, step = _strip_null(hint), "."
    if get_origin(inner) in {list, tuple}:
        [inner, *_], step = get_args(inner), "[]."
    if is_typeddict(inner):
        told = _texts_under_fields(inner)
        for each, of_it in get_type_hints(inner).items():
            yield from _unfold(f"{path}{step}{each}", of_it, told.get(each, ""))


@cache
def _texts_under_fields(declared: type) -> dict[str, str]:
    """Return the texts that stand right under fields in the source of one class."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(declared))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found: dict[str, str] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as told)),
            ):
                found[name] = " ".join(told.split())
            case _:
                pass
    return found


def _words(hint: Any) -> str:  # noqa: ANN401  (a type, of any kind)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        shown = [_words(argument) for argument in arguments if argument is not NoneType]
        return " or ".join([*shown, "null"] if NoneType in arguments else shown)
    if origin in {list, tuple}:
        return f"list of {_words(arguments[0])}" if arguments else "list"
    if dict in {origin, hint} or is_typeddict(hint):
        return "object"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))


# --- Schema and example -------------------------------------------------------------------------


def data_schema(kind: type[Event], *, is_closed: bool = False) -> dict[str, Any]:
    """
    Return the JSON Schema (2020-12) of the event's data.

    Fields may be added, so others are let pass; `is_closed` is for what we write ourselves.
    """
    found = list_fields(kind)
    hints = {field.path: field.hint for field in found if not {".", "["} & set(field.path)}
    told = {field.path: field.meaning for field in found}
    return _object(hints, told, is_closed=is_closed)


def _object(
    hints: dict[str, Any], told: dict[str, str], *, path: str = "", is_closed: bool
) -> dict[str, Any]:
    properties = {}
    for name, hint in hints.items():
        schema = _schema(hint, told, path=f"{path}{name}", is_closed=is_closed)
        meaning = told.get(f"{path}{name}")
        properties[name] = schema | ({"description": meaning} if meaning else {})
    closed = {"additionalProperties": False} if is_closed else {}
    return {"type": "object", "properties": properties, "required": list(hints)} | closed


def _schema(hint: Any, told: dict[str, str], *, path: str, is_closed: bool) -> dict[str, Any]:  # noqa: ANN401  (a type)
    inner = _strip_null(hint)
    if inner is not hint:
        schema = _schema(inner, told, path=path, is_closed=is_closed)
        return schema | {"type": [schema["type"], "null"]}
    origin = get_origin(hint)
    if origin in {list, tuple}:
        item = _schema(get_args(hint)[0], told, path=f"{path}[]", is_closed=is_closed)
        return {"type": "array", "items": item}
    if is_typeddict(hint):
        return _object(get_type_hints(hint), told, path=f"{path}.", is_closed=is_closed)
    schema_of_it = _SCHEMAS.get(origin or hint)
    if schema_of_it is None:
        msg = f"{path} of an event has the type {_words(hint)}, which JSON does not tell apart."
        raise InvariantBroken(msg)
    return dict(schema_of_it)


def _strip_null(hint: Any) -> Any:  # noqa: ANN401  (a type)
    """Return X of `X | None`; anything else as it is."""
    arguments = [argument for argument in get_args(hint) if argument is not NoneType]
    is_optional = get_origin(hint) in {Union, UnionType} and len(arguments) == 1
    return arguments[0] if is_optional else hint


def list_unexplained_fields(kind: type[Event]) -> list[str]:
    """Say of which fields the event says nothing; of none, if all is well."""
    return [
        f"{kind.name} does not say what its field {field.path} means."
        for field in list_fields(kind)
        if not field.meaning
    ]


def list_example_faults(kind: type[Event]) -> list[str]:
    """Say where the event's example is not what the event would carry; nothing if it is."""
    if not kind.example:
        return [f"{kind.name} has no example."]
    schema = data_schema(kind, is_closed=True)
    found = Draft202012Validator(schema, format_checker=_FORMATS).iter_errors(dict(kind.example))
    return sorted(
        f"The example of {kind.name} is wrong at {error.json_path}: {error.message}"
        for error in found
    )


def _is_instant(value: object) -> bool:
    # As events print them: in UTC, and saying so.
    if not isinstance(value, str):
        return True
    return value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None


_FORMATS.checks("date-time", raises=ValueError)(_is_instant)


# --- What was promised --------------------------------------------------------------------------


def lock_of(kinds: Sequence[type[Event]]) -> Lock:
    """Return what these events promise, by their public types."""
    return {
        public_type(kind.name): {
            "schema_version": kind.schema_version,
            "aggregate": kind.aggregate_type,
            "data": {field.path: field.words for field in list_fields(kind)},
        }
        for kind in kinds
    }


def list_broken_promises(locked: Lock, kinds: Sequence[type[Event]]) -> list[str]:
    """Say what clients were promised and these events no longer keep; nothing if they do."""
    promised = lock_of(kinds)
    gone = [
        f"{type_} is gone, and whoever subscribed to it would wait for ever."
        for type_ in sorted(locked.keys() - promised.keys())
    ]
    changed = [
        fault
        for type_ in sorted(locked.keys() & promised.keys())
        for fault in _list_changes(type_, locked[type_], promised[type_])
    ]
    return gone + changed + _list_missing_steps(promised)


def _list_changes(type_: str, was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    version = was["schema_version"]
    if now["schema_version"] > version:
        return
    if now["schema_version"] < version:
        yield f"{type_} went back from schema version {version} to {now['schema_version']}."
        return
    remedy = "raise its schema_version and register a downgrade, or leave it as it was."
    if was["aggregate"] != now["aggregate"]:
        yield (
            f"{type_} is about a {now['aggregate']} and was about a {was['aggregate']}"
            f" within schema version {version}: {remedy}"
        )
    for path, words in was["data"].items():
        found = now["data"].get(path)
        if found is None:
            yield f"{type_} lost its field {path} within schema version {version}: {remedy}"
        elif found != words:
            yield (
                f"{path} of {type_} was {words} and is {found}"
                f" within schema version {version}: {remedy}"
            )


def _list_missing_steps(promised: Lock) -> list[str]:
    return [
        f"{type_} is of schema version {told['schema_version']} with {steps} registered"
        " downgrades: whoever is pinned to an older one would get the new shape."
        for type_, told in sorted(promised.items())
        if (steps := versions.count_steps(type_)) < told["schema_version"] - 1
    ]
