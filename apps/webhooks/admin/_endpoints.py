"""Endpoints: how they answer, what is owed to them, which secrets sign, and the acts on them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final, override

from django.contrib import admin
from django.db.models import Count, Min
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Fact, Filter, RecordAdmin, Table, cells, lists, shown, zone_of
from apps.webhooks import queries
from apps.webhooks.admin._acts import ENDPOINT_ACTS
from apps.webhooks.admin._links import answer_cell, delivery_link, host_of
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookSecret
from apps.webhooks.rules import retries
from apps.webhooks.states import DeliveryStatus, DisabledReason, EndpointStatus

if TYPE_CHECKING:
    from uuid import UUID

ROWS_SHOWN = 20
_WHY_OFF: Final[Mapping[str, str]] = {
    DisabledReason.GONE: "off: it answered 410",
    DisabledReason.FAILING: "off: it failed for too long",
    DisabledReason.REQUESTED: "off by request",
}


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
        "status_cell",
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
        "pace",
        "owed",
        "oldest_due",
        "failing_since",
        "created_at",
    )
    filters: ClassVar[Sequence[Filter]] = (lists.choice("status", EndpointStatus.choices),)
    acts = ENDPOINT_ACTS

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
        return f"Endpoint at {host_of(obj)}"

    @override
    def lead(self, obj: WebhookEndpoint) -> Sequence[SafeString]:
        return [self.status_cell(obj), self.health(obj)]

    @shown("Status")
    def status_cell(self, obj: WebhookEndpoint) -> SafeString:
        own = cells.state(obj.status)
        if not obj.is_changing:
            return own
        return format_html("{} {}", own, cells.state("being changed", tone="busy"))

    def host(self, obj: WebhookEndpoint) -> SafeString:
        return cells.link(self.url_of(obj), host_of(obj))

    def health(self, obj: WebhookEndpoint) -> SafeString:
        if obj.status != EndpointStatus.ENABLED:
            words = _WHY_OFF.get(obj.disabled_reason, obj.status)
            return cells.state(obj.disabled_reason or obj.status, label=words, tone="flat")
        if obj.circuit_open_until is not None:
            return cells.state("unreachable", tone="bad")
        if obj.first_failure_at is not None:
            return cells.state("failing", tone="warn")
        # Which is also true of one that nothing was sent to yet.
        return cells.state("no failures", tone="good")

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
        if until <= clock.database_now():
            return cells.text("half open: the next attempt decides")
        return format_html("open until {}", cells.instant(until, zone=zone_of(obj)))

    @shown("Mean of the last 20")
    def pace(self, obj: WebhookEndpoint) -> SafeString:
        of_it = {"organization_id": obj.organization_id, "endpoint_id": obj.id}
        mean = retries.mean_ms(queries.list_recent_durations_ms(**of_it))
        if mean is None:
            return cells.NONE
        told = f"{mean:,.0f} ms"
        return cells.text(f"{told}, with the slow" if queries.is_among_slow(**of_it) else told)

    def failing_since(self, obj: WebhookEndpoint) -> SafeString:
        return cells.instant(obj.first_failure_at, zone=zone_of(obj))

    @override
    def get_facts(self, request: HttpRequest, obj: WebhookEndpoint) -> list[Fact]:
        """Add what enabling and replaying would be about."""
        return [
            *super().get_facts(request, obj),
            Fact("Paused", _counted(obj, DeliveryStatus.PAUSED)),
            Fact("Failed for good", _counted(obj, DeliveryStatus.FAILED)),
        ]

    @override
    def get_tables(self, request: HttpRequest, obj: WebhookEndpoint) -> list[Table]:
        show = self.admin_site.autolink  # type: ignore[attr-defined]  # our site's
        return [_latest_deliveries(obj, show=show), _secrets(obj)]


def _counted(endpoint: WebhookEndpoint, status: DeliveryStatus) -> SafeString:
    found = queries.count_latest(
        organization_id=endpoint.organization_id, endpoint_id=endpoint.id, status=status
    )
    if not found.number:
        return cells.NONE
    since = cells.instant(found.oldest_made_at, zone=zone_of(endpoint))
    return format_html("{}, since {}", f"{found.number:,}", since)


def _latest_deliveries(endpoint: WebhookEndpoint, *, show: Callable[[str], SafeString]) -> Table:
    rows = WebhookDelivery.objects.filter(
        organization_id=endpoint.organization_id, endpoint_id=endpoint.id
    ).order_by("-id")[:ROWS_SHOWN]
    url = reverse("admin:webhooks_webhookdelivery_changelist")
    return Table(
        "Latest deliveries",
        ("Delivery", "Event", "About", "State", ">Attempts", "Answer", "Made"),
        [
            [
                delivery_link(row),
                cells.code(row.event_type),
                show(row.aggregate_id),
                cells.state(row.status),
                cells.number(row.attempts_made),
                answer_cell(row.last_status_code, row.last_outcome),
                cells.instant(row.created_at, zone=zone_of(endpoint)),
            ]
            for row in rows
        ],
        empty="Nothing has been owed to this endpoint yet.",
        more_url=f"{url}?endpoint_id={endpoint.id}",
        more_label="All of its deliveries",
    )


def _secrets(endpoint: WebhookEndpoint) -> Table:
    # What is sealed is not even read: a secret's text is its owner's alone (ADR 0105).
    rows = (
        WebhookSecret.objects.filter(
            organization_id=endpoint.organization_id, endpoint_id=endpoint.id
        )
        .order_by("-id")
        .values_list("id", "created_at", "expires_at")[:ROWS_SHOWN]
    )
    now, zone = clock.now(), zone_of(endpoint)
    return Table(
        "Secrets",
        ("Secret", "Made", "Signs", "Expires"),
        [
            [
                cells.cut(str(id_)),
                cells.instant(made_at, zone=zone),
                _signing(expires_at, now=now),
                cells.instant(expires_at, zone=zone),
            ]
            for id_, made_at, expires_at in rows
        ],
        empty="None is kept any more.",
        note="the client rotates them over the API; nobody here can read one",
    )


def _signing(expires_at: datetime | None, *, now: datetime) -> SafeString:
    if expires_at is None:
        return cells.state("active", label="until it is rotated")
    if expires_at > now:
        return cells.state("expiring", label="until it expires", tone="busy")
    return cells.state("expired", tone="flat")
