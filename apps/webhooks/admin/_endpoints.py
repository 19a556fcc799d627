"""Staff screens of webhooks: endpoints and how they answer, deliveries and every attempt."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, override
from urllib.parse import urlsplit

from django.contrib import admin
from django.db.models import Count, Min, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import (
    Act,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)
from apps.core.ids import decode_id, encode_id
from apps.webhooks import operations
from apps.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from apps.webhooks.states import DeliveryStatus, EndpointStatus

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

ROWS_SHOWN = 20


def _disable_is_off(endpoint: WebhookEndpoint, _user: Any) -> str:  # noqa: ANN401
    return "" if endpoint.status == EndpointStatus.ENABLED else f"It is {endpoint.status} already."


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(RecordAdmin[WebhookEndpoint]):
    """URLs of our clients, and how they have been answering."""

    view_capability = "webhooks.view_delivery"
    prefix = "whe"
    aggregate_type = "webhook_endpoint"
    title = "Webhook endpoints"
    intro = "Where clients are told what happened, and how their servers have been answering."
    empty = "No client has an endpoint yet."
    search_hint = "whe_…"
    list_display = (
        "host",
        "id",
        "organization",
        "health",
        "owed",
        "oldest_due",
        "failing_since",
        "status",
    )
    facts = (
        "id",
        "organization",
        "host",
        "description",
        "event_types",
        "ordering",
        "health",
        "circuit",
        "owed",
        "oldest_due",
        "failing_since",
        "created_at",
    )
    filters: ClassVar[Sequence[Filter]] = (lists.choice("status", EndpointStatus.choices),)
    acts = (
        Act(
            name="pause",
            capability="webhooks.pause_endpoint",
            operation=operations.disable_endpoint,
            subject="endpoint_id",
            label=lambda _endpoint: "Pause this endpoint",
            off=_disable_is_off,
            done=lambda _result: "Paused. What is owed to it waits.",
            presets=("The client asked for it.", "Its server is being moved."),
            is_dangerous=True,
            note="Nothing is sent from now on; what is owed waits until the endpoint is enabled.",
        ),
        Act(
            name="ping",
            capability="webhooks.edit_endpoint",
            operation=operations.ping_endpoint,
            subject="endpoint_id",
            label=lambda _endpoint: "Send a test event",
            off=lambda endpoint, _user: (
                "" if endpoint.status == EndpointStatus.ENABLED else "It is not enabled."
            ),
            done=lambda _result: "A webhook.ping is on its way.",
        ),
    )

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        return super().get_queryset(request).defer("url").select_related("organization")

    @override
    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> WebhookEndpoint | None:
        return super().get_object(request, object_id)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[WebhookEndpoint]) -> None:
        waiting = WebhookDelivery.objects.filter(
            organization_id__in={row.organization_id for row in rows},
            endpoint_id__in=[row.id for row in rows],
            status=DeliveryStatus.PENDING,
        )
        found: dict[UUID, tuple[int, datetime]] = {
            endpoint_id: (number, oldest)
            for endpoint_id, number, oldest in waiting.order_by()
            .values_list("endpoint_id")
            .annotate(Count("id"), Min("next_attempt_at"))
        }
        for row in rows:
            number, oldest = found.get(row.id, (0, None))
            row.owed_count = number  # type: ignore[attr-defined]  # for the cells
            row.due_first = oldest  # type: ignore[attr-defined]  # for the cells

    @override
    def headline(self, obj: WebhookEndpoint) -> str:
        return f"Endpoint at {_host(obj)}"

    @override
    def lead(self, obj: WebhookEndpoint) -> Sequence[SafeString]:
        return [cells.state(obj.status), self.health(obj)]

    def host(self, obj: WebhookEndpoint) -> SafeString:
        return cells.link(self.url_of(obj), _host(obj))

    def health(self, obj: WebhookEndpoint) -> SafeString:
        if obj.status != EndpointStatus.ENABLED:
            return cells.state(obj.disabled_reason or obj.status, tone="flat")
        if obj.circuit_open_until is not None:
            return cells.state("unreachable", tone="bad")
        if obj.first_failure_at is not None:
            return cells.state("failing", tone="warn")
        return cells.state("answering", tone="good")

    @shown(align="end")
    def owed(self, obj: WebhookEndpoint) -> SafeString:
        return cells.number(obj.owed_count)  # type: ignore[attr-defined]  # by prepare

    def oldest_due(self, obj: WebhookEndpoint) -> SafeString:
        due: datetime | None = obj.due_first  # type: ignore[attr-defined]  # by prepare
        now = clock.now()
        # What waits for its next attempt is owed, and not late.
        return cells.age(due, now=now) if due is not None and due <= now else cells.NONE

    def circuit(self, obj: WebhookEndpoint) -> SafeString:
        until = obj.circuit_open_until
        if until is None:
            return cells.text("closed")
        if until <= clock.now():
            return cells.text("half open: the next attempt decides")
        return format_html("open until {}", cells.instant(until, zone=zone_of(obj)))

    def failing_since(self, obj: WebhookEndpoint) -> SafeString:
        return cells.instant(obj.first_failure_at, zone=zone_of(obj))

    @override
    def get_tables(self, request: HttpRequest, obj: WebhookEndpoint) -> list[Table]:
        deliveries = WebhookDelivery.objects.filter(
            organization_id=obj.organization_id, endpoint_id=obj.id
        ).order_by("-id")[:ROWS_SHOWN]
        url = reverse("admin:webhooks_webhookdelivery_changelist")
        return [
            Table(
                "Latest deliveries",
                ("Delivery", "Event", "About", "State", ">Attempts", "Answer", "Made"),
                [
                    [
                        delivery_link(row),
                        cells.code(row.event_type),
                        cells.cut(row.aggregate_id),
                        cells.state(row.status),
                        cells.number(row.attempts_made),
                        _answer(row.last_status_code, row.last_outcome),
                        cells.instant(row.created_at, zone=zone_of(obj)),
                    ]
                    for row in deliveries
                ],
                empty="Nothing has been owed to this endpoint yet.",
                more_url=f"{url}?endpoint_id={obj.id}",
                more_label="All of its deliveries",
            )
        ]


def _host(endpoint: WebhookEndpoint) -> str:
    # A path may hold a token of the client's; the host is what one talks about.
    parts = urlsplit(endpoint.url)
    return parts.netloc.rsplit("@", maxsplit=1)[-1]


def delivery_link(delivery: WebhookDelivery) -> SafeString:
    """Link to a delivery."""
    url = reverse("admin:webhooks_webhookdelivery_change", args=[encode_id("whd", delivery.id)])
    return cells.short_id("whd", delivery.id, url=url)


def _answer(status_code: int | None, outcome: str) -> SafeString:
    if status_code is not None:
        return cells.code(status_code)
    return cells.text(outcome.replace("_", " "))


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
    list_display = ("id", "event", "about", "to", "status", "attempts_made", "answer", "created_at")
    facts = (
        "id",
        "event",
        "event_id_cell",
        "about",
        "to",
        "status",
        "attempts_made",
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
        if text.startswith("evt_"):
            return rows.filter(event_id=decode_id("evt", text))
        if text.startswith("whd_"):
            return super().find(request, rows, text)
        return rows.filter(aggregate_id=text)

    @override
    def headline(self, obj: WebhookDelivery) -> str:
        return f"{obj.event_type} to {_host(obj.endpoint)}"

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
        return cells.text(_host(obj.endpoint))

    def answer(self, obj: WebhookDelivery) -> SafeString:
        return _answer(obj.last_status_code, obj.last_outcome)

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
                        cells.free_text(row.answer_head[:300]),
                    ]
                    for row in attempts
                ],
                empty="Not tried yet.",
            )
        ]


def _tone(attempt: WebhookAttempt) -> str:
    succeeded = attempt.status_code is not None and attempt.status_code // 100 == 2  # noqa: PLR2004
    return "good" if succeeded else "bad"
