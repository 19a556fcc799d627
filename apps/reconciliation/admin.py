"""Staff screens of reconciliation: what bank and books do not agree about."""

from collections.abc import Sequence
from typing import ClassVar

from django.contrib import admin
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Filter, RecordAdmin, cells, lists, shown
from apps.reconciliation.models import Break
from apps.reconciliation.states import BreakKind, BreakState


@admin.register(Break)
class BreakAdmin(RecordAdmin[Break]):
    """What does not tie, with an age; closed with a reason only."""

    view_capability = "banking.view_statement"
    prefix = "brk"
    aggregate_type = "break"
    intro = "Where bank and books do not agree. Each has a cause, an age, and an end with a reason."
    empty = "Bank and books agree."
    search_hint = "brk_…"
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = ("id", "what", "amount_minor", "age", "bank_account", "line", "state")
    facts = (
        "id",
        "what",
        "amount_minor",
        "age",
        "bank_account",
        "line",
        "statement_cell",
        "state",
        "resolution",
        "reason",
        "first_seen_at",
        "resolved_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", BreakState.choices, default="open"),
        lists.choice("kind", BreakKind.choices),
    )

    def what(self, obj: Break) -> SafeString:
        return cells.text(obj.kind.replace("_", " "))

    def age(self, obj: Break) -> SafeString:
        return cells.age(obj.first_seen_at, now=clock.now())

    @shown("Bank line")
    def line(self, obj: Break) -> SafeString:
        return cells.row_link("banking_bankline", "bl", obj.bank_line_id)

    @shown("Statement")
    def statement_cell(self, obj: Break) -> SafeString:
        return cells.row_link("banking_bankstatement", "bst", obj.statement_id)
