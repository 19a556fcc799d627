"""Deliveries: one event owed to one endpoint each, and every attempt to bring it there."""

from collections.abc import Sequence
from typing import Any, ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.core.admin_base import Act, Filter, RecordAdmin, Table, cells, lists, shown, zone_of
from apps.core.errors import Refusal
from apps.core.ids import decode_id, encode_id
from apps.core.queries import list_events_about
from apps.webhooks import operations
from apps.webhooks.admin._links import answer_cell, host_of
from apps.webhooks.models import WebhookAttempt, WebhookDelivery
from apps.webhooks.states import DeliveryStatus

ROWS_SHOWN = 20
EVENTS_MAX = 500


def _replay_is_off(delivery: WebhookDelivery, _user: Any) -> str:  # noqa: ANN401
    if delivery.status in {DeliveryStatus.PENDING, DeliveryStatus.PAUSED}:
        return "It is still waiting to be sent."
    return ""


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(RecordAdmin[WebhookDelivery]):
    """One event owed to one endpoint, and every attempt to deliver it."""

    view_capability = "webhooks.view_delivery"
    prefix = "whd"
    aggregate_type = "webhook_delivery"
    title = "Deliveries"
    intro = "Every event owed to an endpoint. A replay sends the same bytes under the same id."
    empty = "Nothing has been owed to anybody yet."
    search_hint = "whd_…, evt_… or the id an event is about"
    related: ClassVar[Sequence[str]] = ("organization", "endpoint")
    list_display = ("id", "event", "about", "to", "status", "attempts", "answer", "created_at")
    facts = (
        "id",
        "event",
        "event_id_cell",
        "about",
        "to",
        "status",
        "attempts",
        "answer",
        "next_attempt_at",
        "created_at",
        "closed_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("status", DeliveryStatus.choices),
        lists.linked("endpoint_id", "Deliveries to one endpoint"),
    )
    acts = (
        Act(
            name="replay",
            capability="webhooks.replay_delivery",
            operation=operations.replay_delivery,
            subject="delivery_id",
            label=lambda _delivery: "Send it again",
            off=_replay_is_off,
            done=lambda _result: "It is owed again, with a new budget of attempts.",
            presets=("The client asked for it.", "Their server was down."),
            is_always_shown=True,
            note="The same event, id and bytes; a client that saw it before knows it by its id.",
        ),
    )

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[WebhookDelivery], text: str
    ) -> QuerySet[WebhookDelivery]:
        if text.startswith("whd_"):
            return super().find(request, rows, text)
        # An index leads from an organization and an event to what is owed of it.
        seen = self.admin_site.all_organization_ids(request)  # type: ignore[attr-defined]  # our site's
        owed = rows.filter(organization_id__in=seen)
        if not text.startswith("evt_"):
            events = list_events_about(organization_ids=seen, aggregate_id=text).order_by(
                "-sequence"
            )
            return owed.filter(event_id__in=list(events.values_list("id", flat=True)[:EVENTS_MAX]))
        try:
            return owed.filter(event_id=decode_id("evt", text))
        except Refusal:
            return owed.none()

    @override
    def headline(self, obj: WebhookDelivery) -> str:
        return f"{obj.event_type} to {host_of(obj.endpoint)}"

    @override
    def lead(self, obj: WebhookDelivery) -> Sequence[SafeString]:
        return [cells.state(obj.status)]

    def event(self, obj: WebhookDelivery) -> SafeString:
        return cells.code(obj.event_type)

    @shown("Event id")
    def event_id_cell(self, obj: WebhookDelivery) -> SafeString:
        return self.admin_site.autolink(encode_id("evt", obj.event_id))  # type: ignore[attr-defined, no-any-return]  # our site's

    def about(self, obj: WebhookDelivery) -> SafeString:
        return self.admin_site.autolink(obj.aggregate_id)  # type: ignore[attr-defined, no-any-return]  # our site's

    def to(self, obj: WebhookDelivery) -> SafeString:
        return cells.host(host_of(obj.endpoint))

    @shown("Attempts", align="end")
    def attempts(self, obj: WebhookDelivery) -> SafeString:
        return cells.number(obj.attempts_made)

    def answer(self, obj: WebhookDelivery) -> SafeString:
        return answer_cell(obj.last_status_code, obj.last_outcome)

    @override
    def get_tables(self, request: HttpRequest, obj: WebhookDelivery) -> list[Table]:
        attempts = WebhookAttempt.objects.filter(
            organization_id=obj.organization_id, delivery_id=obj.id
        ).order_by("-id")[:ROWS_SHOWN]
        return [
            Table(
                "Attempts",
                (">No.", "When", "Outcome", "Answer", ">Took", "What it said"),
                [
                    [
                        cells.number(row.number),
                        cells.instant(row.started_at, zone=zone_of(obj)),
                        cells.state(row.outcome, tone=_tone(row)),
                        cells.code(row.status_code),
                        cells.text(f"{row.duration_ms:,} ms"),
                        cells.free_text(row.answer_head, at_most=300),
                    ]
                    for row in attempts
                ],
                empty="Not tried yet.",
            )
        ]


def _tone(attempt: WebhookAttempt) -> str:
    succeeded = attempt.status_code is not None and attempt.status_code // 100 == 2  # noqa: PLR2004
    return "good" if succeeded else "bad"
