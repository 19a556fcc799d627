"""What happened to a row: its events and the acts on it, newest first."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import (
    Case,
    Func,
    Model,
    OuterRef,
    Subquery,
    TextField,
    UUIDField,
    Value,
    When,
)
from django.db.models.fields.json import KT, KeyTransform
from django.db.models.functions import Cast, LPad, Substr
from django.db.models.lookups import Exact
from django.utils.safestring import SafeString

from apps.core.admin_base import cells
from apps.core.admin_base.pages import zone_of
from apps.core.models import AuditEvent, OutboxEvent

ROWS_MAX = 30
_STAFF: Final = "staff:"
_STAFF_ID: Final = f"^{_STAFF}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$"
# No organization has it: what belongs to none is told of by its own screens.
NOBODYS = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a history."""

    at: datetime
    what: str
    who: str
    why: str
    is_event: bool
    zone: str

    @property
    def when(self) -> SafeString:
        """Return the instant as a screen shows it."""
        return cells.instant(self.at, zone=self.zone)


@dataclass(frozen=True, slots=True)
class Told:
    """An act on a row or an event of it, as it was read."""

    recorded_at: datetime
    name: str
    actor: str
    actor_kind: str
    # The person's name, where the actor is one.
    person: str | None
    reason: str
    state: str | None
    is_event: bool
    # Among acts, or among the events of its row, of one instant: what came later has the greater.
    place: str


@dataclass(frozen=True, slots=True)
class History:
    """What happened to a row, newest first."""

    told: Sequence[Told]
    zone: str

    @property
    def lines(self) -> list[Happening]:
        """Return its lines as a page shows them."""
        return [
            Happening(
                at=one.recorded_at,
                what=_became(one),
                who=_by(one, one.person or actor_words(one.actor)),
                why=one.reason,
                is_event=one.is_event,
                zone=self.zone,
            )
            for one in self.told
        ]


def read(obj: Model, *, aggregate_type: str, key: str) -> History:
    """Return what happened to a row: the newest acts, and the newest events, in one read."""
    organization_id: UUID = getattr(obj, "organization_id", None) or NOBODYS
    acts = AuditEvent.objects.filter(
        organization_id=organization_id,
        subject_type=obj._meta.label_lower,
        subject_id=str(obj.pk),
    )
    rows = (
        acts.alias(person_id=_person_id("principal"))
        .order_by("-id")
        .values_list(
            "recorded_at",
            "act",
            "principal",
            "actor_kind",
            _person(),
            "reason",
            Value(None, output_field=TextField()),
            Value(value=False),
            Cast("id", TextField()),
        )[:ROWS_MAX]
    )
    if aggregate_type:
        events = OutboxEvent.objects.filter(
            organization_id=organization_id, aggregate_type=aggregate_type, aggregate_id=key
        )
        rows = rows.union(
            events.alias(person_id=_person_id("actor")).order_by("-sequence").values_list(
                "recorded_at", "type", "actor", Value(""), _person(), Value(""),
                _state(), Value(value=True),
                LPad(Cast("sequence", TextField()), 19, Value("0")),
            )[:ROWS_MAX],
            all=True,
        )  # fmt: skip
    told = [Told(*row) for row in rows]
    # Of one instant the act stands above what it led to.
    told.sort(key=lambda one: (one.recorded_at, not one.is_event, one.place), reverse=True)
    return History(told, zone_of(obj))


def _person_id(column: str) -> Case:
    """Return the id of the person whom a column of actors names, if it is one."""
    id_ = Cast(Substr(column, len(_STAFF) + 1), UUIDField())
    return Case(When(**{f"{column}__regex": _STAFF_ID}, then=id_))


def _person() -> Subquery:
    """Return the name of the person of `person_id`."""
    return Subquery(get_user_model().objects.filter(pk=OuterRef("person_id")).values("name"))


def _state() -> Case:
    """Return the state that an event tells of, if that is a text: else its JSON would be shown."""
    kind = Func(KeyTransform("state", "data"), function="jsonb_typeof", output_field=TextField())
    return Case(When(Exact(kind, "string"), then=KT("data__state")))


def _by(one: Told, principal: str) -> str:
    # Who answers for a key did not do what it does.
    return f"an API key of {principal}" if one.actor_kind == "api_key" else principal


def said(name: str) -> str:
    """Return a technical name as words: `payouts.cancel_payout` is `cancel payout`."""
    return name.split(".", 1)[-1].replace("_", " ").replace(".", " ")


def _became(one: Told) -> str:
    """Return it as words; an event with the state it told of, where its type does not say that."""
    what = said(one.name)
    if not one.state or one.state.replace("_", " ") in what:
        return what
    return f"{what}: {one.state.replace('_', ' ')}"


def actor_words(actor: str) -> str:
    """Say who acted where no person did: a job by its name, a key as a key."""
    kind, _, name = actor.partition(":")
    return "API key" if kind == "api_key" else f"job {name}" if kind == "job" else actor


def _staff_id(actor: str) -> UUID | None:
    """Return the id of the person whom an actor names; an imported journal names whom it likes."""
    if not actor.startswith(_STAFF):
        return None
    with suppress(ValueError):
        return UUID(actor.removeprefix(_STAFF))
    return None


def people(actors: Iterable[str]) -> dict[str, str]:
    """Return the names of the people among these actors, by `staff:<id>`, in one read."""
    ids = {id_ for actor in actors if (id_ := _staff_id(actor)) is not None}
    if not ids:
        return {}
    found = get_user_model().objects.filter(pk__in=ids)
    return {f"{_STAFF}{person.pk}": str(person) for person in found}
