"""The screen of balance monitors: who is told about which balance."""

from collections.abc import Sequence
from typing import ClassVar, override

from django.contrib import admin
from django.utils.safestring import SafeString

from apps.core.admin_base import Filter, RecordAdmin, cells, lists, shown
from apps.ledger.models import BalanceMonitor


@admin.register(BalanceMonitor)
class BalanceMonitorAdmin(RecordAdmin[BalanceMonitor]):
    """Who is told about which balance. Clients set monitors and call them off over the API."""

    view_capability = "ledger.view_ledger"
    prefix = "bm"
    aggregate_type = "balance_monitor"
    title = "Balance monitors"
    intro = "Each tells once as a balance crosses its threshold, and again after it was back."
    empty = "No monitor was set; clients set them over the API."
    search_hint = "bm_…"
    related = ("organization", "account")
    list_display = ("id", "watched", "rule", "threshold", "state", "told", "triggered_at")
    filters: ClassVar[Sequence[Filter]] = (
        lists.linked("account_id", "Ledger account"),
        lists.choice("is_active", [("True", "Active"), ("False", "Called off")], title="State"),
    )
    facts = (
        "id",
        "watched",
        "rule",
        "threshold",
        "state",
        "told",
        "triggered_at",
        "description",
        "created_at",
    )

    @override
    def lead(self, obj: BalanceMonitor) -> Sequence[SafeString]:
        return [self.state(obj)]

    @shown("Account")
    def watched(self, obj: BalanceMonitor) -> SafeString:
        return cells.cut(obj.account.code, head=16, tail=12)

    @shown("Tells when")
    def rule(self, obj: BalanceMonitor) -> SafeString:
        return cells.text(f"{obj.measure} is {obj.direction}")

    @shown(align="end")
    def threshold(self, obj: BalanceMonitor) -> SafeString:
        return cells.amount(obj.threshold_minor, obj.account.currency)

    def state(self, obj: BalanceMonitor) -> SafeString:
        if not obj.is_active:
            return cells.state("called off")
        return cells.state("beyond" if obj.is_beyond else "within", tone=_TONE[obj.is_beyond])

    @shown("Told", align="end")
    def told(self, obj: BalanceMonitor) -> SafeString:
        return cells.number(obj.triggered)


_TONE = {True: "warn", False: "good"}
