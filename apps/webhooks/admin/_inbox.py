"""The inbox: what providers told, what became of it, and what is about nobody we know."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, override

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import (
    Act,
    ActForm,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)
from apps.core.ids import encode_id
from apps.webhooks import operations, queries, registry
from apps.webhooks.models import InboundEvent, ProviderConnection, RefusedCall
from apps.webhooks.rules.inbound import KEY_LENGTH_MAX
from apps.webhooks.states import INBOUND_WAITS, InboundOutcome

ROWS_SHOWN = 20
_COUNTED_MAX = operations.RELEASED_AT_ONCE + 1
_DAYS_SHOWN = timedelta(days=30)


class LinkForm(ActForm):
    """What an event is about, by the key that its handler finds objects by."""

    object_key = forms.CharField(
        label="Object",
        max_length=KEY_LENGTH_MAX,
        help_text="Its id, as the provider's events use it.",
    )

    def clean_object_key(self) -> str:
        key = str(self.cleaned_data["object_key"])
        if not key.isprintable():
            raise ValidationError("A key has no control characters.")
        return key


def _link_is_off(event: InboundEvent, _user: Any) -> str:  # noqa: ANN401
    if event.outcome in INBOUND_WAITS:
        return ""
    if event.outcome == InboundOutcome.RECEIVED:
        return "It was not worked yet."
    if event.outcome == InboundOutcome.IGNORED:
        return "It was ignored: its type was not handled. Its connection works it, once it is."
    return f"It was {event.outcome} already."


def _linked(event: InboundEvent) -> str:
    if event.outcome == InboundOutcome.APPLIED:
        return "Linked and applied."
    return "Linked. Its object is as far already, so nothing changed."


@admin.register(InboundEvent)
class InboundEventAdmin(RecordAdmin[InboundEvent]):
    """Verified events of providers; what a provider wrote is never shown."""

    view_capability = "webhooks.view_delivery"
    prefix = "ine"
    title = "Provider inbox"
    intro = (
        "What providers told us, each once, and what became of it. What is about nobody we know is"
        " parked for three days, and then waits here to be linked."
    )
    empty = "Nothing waits to be linked. What else providers told is found by its outcome."
    search_hint = "ine_… or the provider's id of the event"
    related: ClassVar[Sequence[str]] = ("organization", "connection")
    tones: ClassVar[dict[str, str]] = {"applied": "good", "parked": "busy", "superseded": "flat"}
    list_display = ("id", "kind", "provider", "about", "outcome", "effect", "work", "received_at")
    facts = (
        "id",
        "organization",
        "connection_name",
        "kind",
        "event_id",
        "about",
        "linked_key",
        "outcome",
        "rank",
        "effect",
        "work",
        "attempts",
        "last_error_code",
        "received_at",
        "decided_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("outcome", InboundOutcome.choices, default=InboundOutcome.UNMATCHED.value),
        lists.linked("connection_id", "Events of one connection"),
    )
    acts = (
        Act(
            name="link",
            capability="webhooks.link_event",
            operation=operations.link_event,
            form=LinkForm,
            subject="inbound_event_id",
            label=lambda _event: "Link to an object",
            off=_link_is_off,
            done=_linked,
            is_always_shown=True,
            note=(
                "It is worked at once as if the provider had named this object: applied if that"
                " takes it forward, kept without effect if not."
            ),
        ),
    )

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[InboundEvent]:
        return super().get_queryset(request).defer("sealed_body")

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[InboundEvent], text: str
    ) -> QuerySet[InboundEvent]:
        if text.startswith("ine_"):
            return super().find(request, rows, text)
        return rows.filter(event_id=text)

    @override
    def headline(self, obj: InboundEvent) -> str:
        return f"{obj.type} from {obj.provider}"

    @override
    def lead(self, obj: InboundEvent) -> Sequence[SafeString]:
        return [cells.state(obj.outcome, tone=self.tones.get(obj.outcome, ""))]

    @shown("Type")
    def kind(self, obj: InboundEvent) -> SafeString:
        return cells.code(obj.type)

    @shown("Connection")
    def connection_name(self, obj: InboundEvent) -> SafeString:
        url = reverse("admin:webhooks_providerconnection_change", args=[_printed(obj.connection)])
        return cells.link(url, obj.connection.name)

    def about(self, obj: InboundEvent) -> SafeString:
        return self.admin_site.autolink(obj.linked_key or obj.object_key)  # type: ignore[attr-defined, no-any-return]  # our site's

    def outcome(self, obj: InboundEvent) -> SafeString:
        return cells.state(obj.outcome, tone=self.tones.get(obj.outcome, ""))

    def effect(self, obj: InboundEvent) -> SafeString:
        return self.admin_site.autolink(obj.effect_id)  # type: ignore[attr-defined, no-any-return]  # our site's

    def work(self, obj: InboundEvent) -> SafeString:
        return cells.state(obj.state)


def _printed(connection: ProviderConnection) -> str:
    return encode_id("pvc", connection.pk)


def _releasable(connection: ProviderConnection) -> dict[str, int]:
    """Return how many events were ignored of each type that is handled by now."""
    return queries.count_ignored(
        connection=connection,
        types=registry.list_handled_types(connection.provider),
        number_max=_COUNTED_MAX,
    )


class ReleaseForm(ActForm):
    """Which of the types that were ignored is worked now."""

    type = forms.ChoiceField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        field: Any = self.fields["type"]
        field.choices = [
            (type_, f"{type_}: {_counted(number)}")
            for type_, number in _releasable(self.subject).items()
        ]


def _counted(number: int) -> str:
    return f"{number - 1:,}+" if number == _COUNTED_MAX else f"{number:,}"


def _release_is_off(connection: ProviderConnection, _user: Any) -> str:  # noqa: ANN401
    return "" if _releasable(connection) else "Nothing was ignored that is handled by now."


def _released(number: int) -> str:
    if not number:
        return "Nothing of this type was left to release."
    many = "event is" if number == 1 else "events are"
    more = " There may be more: look again." if number == operations.RELEASED_AT_ONCE else ""
    return f"{number:,} {many} due now, and worked by rank.{more}"


@admin.register(ProviderConnection)
class ProviderConnectionAdmin(RecordAdmin[ProviderConnection]):
    """Who may tell an organization what happened, and how many calls were not believed."""

    view_capability = "webhooks.view_delivery"
    prefix = "pvc"
    title = "Provider connections"
    intro = "Where providers tell us what happened. They are made on the command line."
    empty = "No provider is connected yet."
    search_hint = "pvc_…"
    list_display = ("id", "name", "provider", "organization", "last_event", "created_at")
    facts = ("id", "name", "provider", "organization", "hook", "last_event", "created_at")
    acts = (
        Act(
            name="release",
            capability="core.requeue_work",
            operation=operations.release_ignored_events,
            form=ReleaseForm,
            subject="connection_id",
            label=lambda _connection: "Work what was ignored",
            off=_release_is_off,
            done=_released,
            presets=("Events of this type are handled since the last release.",),
            note=(
                "What came before anybody handled its type is worked as if it came now, by rank:"
                " what its object has passed already has no effect."
            ),
        ),
    )

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderConnection]:
        latest = InboundEvent.objects.filter(
            organization_id=OuterRef("organization_id"), connection_id=OuterRef("pk")
        ).order_by("-id")
        return super().get_queryset(request).annotate(latest=latest.values("received_at")[:1])

    @override
    def headline(self, obj: ProviderConnection) -> str:
        return f"{obj.name} ({obj.provider})"

    @override
    def lead(self, obj: ProviderConnection) -> Sequence[SafeString]:
        return []

    def hook(self, obj: ProviderConnection) -> SafeString:
        return cells.code(f"/hooks/{obj.provider}/{_printed(obj)}")

    @shown("Last event")
    def last_event(self, obj: ProviderConnection) -> SafeString:
        return cells.instant(obj.latest, zone=zone_of(obj))  # type: ignore[attr-defined]  # annotated

    @override
    def get_tables(self, request: HttpRequest, obj: ProviderConnection) -> list[Table]:
        refused = RefusedCall.objects.filter(
            organization_id=obj.organization_id,
            connection=obj,
            day__gte=(clock.now() - _DAYS_SHOWN).date(),
        ).order_by("-day", "reason")[:ROWS_SHOWN]
        url = reverse("admin:webhooks_inboundevent_changelist")
        return [
            Table(
                "Calls that were not believed, 30 days",
                ("Day", "Why", ">Calls"),
                [
                    [cells.day(row.day), cells.code(row.reason), cells.number(row.count)]
                    for row in refused
                ],
                empty="Every call bore a signature of this connection.",
                more_url=f"{url}?connection_id={obj.pk}&outcome=all",
                more_label="All of its events",
            )
        ]
