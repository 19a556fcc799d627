"""Staff screens of risk: the limits in force, and every decision with the numbers behind it."""

from collections.abc import Sequence
from typing import ClassVar, override

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Filter, RecordAdmin, ReferenceAdmin, Table, cells, lists, shown
from apps.core.ids import encode_id
from apps.risk.models import ActKind, Decision, Limit
from apps.risk.rules import Outcome

_PREFIXES = {"payout": "po", "payment": "pay"}


@admin.register(Limit)
class LimitAdmin(ReferenceAdmin[Limit]):
    """Hard caps; a changed limit is a new one."""

    view_capability = "risk.view_decision"
    prefix = "lim"
    intro = "Hard caps on one kind of act in a window. A changed limit is a new one."
    empty = "No limit is set; nothing but the balance stops a payout."
    related: ClassVar[Sequence[str]] = ("organization", "customer")
    list_display = ("id", "whom", "act", "span", "cap", "state_cell", "set_at", "reason")
    facts = (
        "id",
        "whom",
        "act",
        "span",
        "zone",
        "cap",
        "max_count",
        "set_at",
        "ended_at",
        "reason",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("act", ActKind.choices),
        lists.exact("currency", "Currency", placeholder="EUR"),
    )

    @shown("For")
    def whom(self, obj: Limit) -> SafeString:
        if obj.customer is not None:
            return cells.text(obj.customer)
        return cells.text(obj.scope.replace("_", " "))

    @shown("Window")
    def span(self, obj: Limit) -> SafeString:
        return cells.text(obj.window.replace("_", " "))

    @shown("At most", align="end")
    def cap(self, obj: Limit) -> SafeString:
        return cells.amount(obj.max_amount_minor, obj.currency)

    @shown("State")
    def state_cell(self, obj: Limit) -> SafeString:
        return cells.state("ended" if obj.ended_at else "in_force")


@admin.register(Decision)
class DecisionAdmin(RecordAdmin[Decision]):
    """What risk said, and every number that led there."""

    view_capability = "risk.view_decision"
    prefix = "dec"
    intro = "What risk said of each act, with the numbers it said it by."
    empty = "Nothing was decided in this time."
    related: ClassVar[Sequence[str]] = ("organization", "customer")
    list_display = (
        "id",
        "verdict",
        "kind",
        "about",
        "customer",
        "amount_minor",
        "code",
        "decided_at",
    )
    facts = (*list_display, "trigger", "engine_version")
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("outcome", [(one.value, one.value) for one in Outcome]),
        lists.choice("kind", ActKind.choices),
        lists.since("decided_at", "Decided", now=clock.now),
    )

    @shown("Outcome")
    def verdict(self, obj: Decision) -> SafeString:
        return cells.state(obj.outcome)

    def about(self, obj: Decision) -> SafeString:
        prefix = _PREFIXES.get(obj.subject_type, "")
        if not prefix:
            return cells.text(obj.subject_id)
        return self.admin_site.autolink(encode_id(prefix, obj.subject_id))  # type: ignore[attr-defined, no-any-return]  # our site's

    def code(self, obj: Decision) -> SafeString:
        return cells.code(obj.public_code)

    @override
    def get_tables(self, request: HttpRequest, obj: Decision) -> list[Table]:
        rows = [one for one in obj.limits if isinstance(one, dict)]
        names = sorted({name for one in rows for name in one})
        return [
            Table(
                "Limits that applied",
                [name.replace("_", " ").capitalize() for name in names],
                [[cells.text(one.get(name)) for name in names] for one in rows],
                empty="No limit was set for this act.",
                note="Amounts in minor units, as they stood then.",
            )
        ]
