"""What happened to a row: its events and the acts on it, newest first."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Model
from django.utils.safestring import SafeString

from apps.core.admin_base import cells
from apps.core.admin_base.pages import zone_of
from apps.core.models import AuditEvent, OutboxEvent

ROWS_MAX = 30
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


def of(obj: Model, *, aggregate_type: str, key: str) -> list[Happening]:
    """Return what happened to a row: two reads, and one for the names of people."""
    organization_id: UUID = getattr(obj, "organization_id", None) or NOBODYS
    acts = list(
        AuditEvent.objects.filter(
            organization_id=organization_id,
            subject_type=obj._meta.label_lower,
            subject_id=str(obj.pk),
        ).order_by("-id")[:ROWS_MAX]
    )
    events = (
        list(
            OutboxEvent.objects.filter(
                organization_id=organization_id, aggregate_type=aggregate_type, aggregate_id=key
            ).order_by("-sequence")[:ROWS_MAX]
        )
        if aggregate_type
        else []
    )
    zone = zone_of(obj)
    names = people([act.principal for act in acts] + [event.actor for event in events])
    lines = [
        Happening(
            at=act.recorded_at,
            what=said(act.act),
            who=_by(act, names.get(act.principal) or actor_words(act.principal)),
            why=act.reason,
            is_event=False,
            zone=zone,
        )
        for act in acts
    ] + [
        Happening(
            at=event.recorded_at,
            what=_became(event),
            who=names.get(event.actor) or actor_words(event.actor),
            why="",
            is_event=True,
            zone=zone,
        )
        for event in events
    ]
    return sorted(lines, key=lambda line: line.at, reverse=True)


def _by(act: AuditEvent, principal: str) -> str:
    # Who answers for a key did not do what it does.
    return f"an API key of {principal}" if act.actor_kind == "api_key" else principal


def said(name: str) -> str:
    """Return a technical name as words: `payouts.cancel_payout` is `cancel payout`."""
    return name.split(".", 1)[-1].replace("_", " ").replace(".", " ")


def _became(event: OutboxEvent) -> str:
    """Return an event as words, with the state it told of where the type does not say it."""
    what, state = said(event.type), event.data.get("state")
    if not isinstance(state, str) or state.replace("_", " ") in what:
        return what
    return f"{what}: {state.replace('_', ' ')}"


def actor_words(actor: str) -> str:
    """Say who acted where no person did: a job by its name, a key as a key."""
    kind, _, name = actor.partition(":")
    return "API key" if kind == "api_key" else f"job {name}" if kind == "job" else actor


def people(actors: Iterable[str]) -> dict[str, str]:
    """Return the names of the people among these actors, by `staff:<id>`, in one read."""
    ids = {actor.removeprefix("staff:") for actor in actors if actor.startswith("staff:")}
    if not ids:
        return {}
    found = get_user_model().objects.filter(pk__in=ids)
    return {f"staff:{person.pk}": str(person) for person in found}
