"""Destinations: where a customer's money may go."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, override

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core.admin_base import (
    Act,
    Filter,
    RecordAdmin,
    cells,
    lists,
    shown,
    zone_of,
)
from apps.core.ids import encode_id
from apps.payouts import operations, queries
from apps.payouts.models import Destination
from apps.payouts.states import DestinationState

if TYPE_CHECKING:
    from uuid import UUID


@admin.register(Destination)
class DestinationAdmin(RecordAdmin[Destination]):
    """Where a customer's money may go; the account itself is masked everywhere."""

    view_capability = "payouts.view_payout"
    prefix = "dst"
    aggregate_type = "destination"
    intro = "Where money may go. A changed account is a new version, and waits out a cooldown."
    empty = "No customer has a destination yet."
    search_hint = "dst_…"
    related: ClassVar[Sequence[str]] = ("organization", "customer")
    list_display = ("id", "account", "customer", "state", "usable", "created_at")
    facts = ("id", "account", "customer", "state", "state_reason", "usable", "created_at")
    filters: ClassVar[Sequence[Filter]] = (lists.choice("state", DestinationState.choices),)
    acts = (
        Act(
            name="disable",
            capability="payouts.freeze_destination",
            operation=operations.disable_destination,
            label=lambda _destination: "Disable this destination",
            off=lambda destination, _user: (
                "It is disabled already." if destination.state == "disabled" else ""
            ),
            done=lambda _result: "Disabled; payouts to it that were in no file are canceled.",
            presets=("The customer says it is not theirs.",),
            is_dangerous=True,
            note="Takes effect at once and for good; the customer may add the account afresh.",
        ),
    )

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[Destination]) -> None:
        versions: Mapping[UUID, Any] = queries.versions_by_destination(rows)
        for row in rows:
            row.version = versions[row.id]  # type: ignore[attr-defined]  # for the cells

    @override
    def headline(self, obj: Destination) -> str:
        version = obj.version  # type: ignore[attr-defined]  # attached by prepare
        return f"Destination {version.country}•• •••• {version.iban_tail}"

    def account(self, obj: Destination) -> SafeString:
        version = obj.version  # type: ignore[attr-defined]  # attached by prepare
        return cells.masked_iban(version.iban_tail, country=version.country)

    def customer(self, obj: Destination) -> SafeString:
        url = reverse("admin:accounts_customer_change", args=[encode_id("cus", obj.customer_id)])
        return cells.link(url, obj.customer.external_id or encode_id("cus", obj.customer_id)[:12])

    @shown("Usable from")
    def usable(self, obj: Destination) -> SafeString:
        return cells.instant(obj.version.usable_from, zone=zone_of(obj))  # type: ignore[attr-defined]  # by prepare
