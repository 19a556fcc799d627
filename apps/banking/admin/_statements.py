"""Statements, and every line that the bank booked: what became of it."""

from collections.abc import Sequence
from typing import ClassVar, override
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.banking.admin._links import ROWS_SHOWN
from apps.banking.models import BankLine, BankLineDetail, BankLineStatus, BankStatement
from apps.banking.states import LineState, StatementState
from apps.core.admin_base import (
    Filter,
    Keyset,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
)


@admin.register(BankStatement)
class BankStatementAdmin(RecordAdmin[BankStatement]):
    """What a bank says it booked, statement by statement."""

    view_capability = "banking.view_statement"
    prefix = "bst"
    title = "Statements"
    intro = "What the bank says. Opening balance and lines add up to the closing one, or the file"
    intro += " is refused."
    empty = "No statement was imported yet."
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = (
        "label",
        "account",
        "closing_date",
        "line_count",
        "opening_minor",
        "closing_minor",
        "chain_cell",
        "state",
    )
    facts = (
        "id",
        "account",
        "opening_date",
        "closing_date",
        "opening_minor",
        "closing_minor",
        "line_count",
        "new_line_count",
        "chain_cell",
        "file_cell",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", StatementState.choices),
        lists.choice("source", [("statement", "statement"), ("notification", "notification")]),
        lists.linked("bank_account_id", "Statements of one bank account"),
        lists.linked("bank_file_id", "Statements of one file"),
    )

    @override
    def headline(self, obj: BankStatement) -> str:
        return f"Statement {obj}"

    @shown("Statement")
    def label(self, obj: BankStatement) -> SafeString:
        return cells.link(self.url_of(obj), obj)

    def account(self, obj: BankStatement) -> SafeString:
        if obj.bank_account is None:
            return cells.masked_iban(obj.identification_tail)
        return cells.text(obj.bank_account)

    @shown("Chain")
    def chain_cell(self, obj: BankStatement) -> SafeString:
        return cells.state(obj.chain, tone="warn" if obj.chain == "gap" else "flat")

    @shown("File")
    def file_cell(self, obj: BankStatement) -> SafeString:
        return cells.row_link("banking_bankfile", "bf", obj.bank_file_id)

    @override
    def get_tables(self, request: HttpRequest, obj: BankStatement) -> list[Table]:
        lines = list(
            BankLine.objects.filter(
                organization_id=obj.organization_id, statement_id=obj.id
            ).order_by("position")[:ROWS_SHOWN]
        )
        became = _statuses(lines)
        url = reverse("admin:banking_bankline_changelist")
        return [
            Table(
                "Lines and what became of them",
                (">No.", "Booked", "Reference", "From or to", "Text", "Became", "Entry", ">Amount"),
                [
                    [
                        cells.number(one.position),
                        cells.day(one.booking_date),
                        cells.cut(_reference(one), head=14, tail=8),
                        cells.masked_iban(one.counterparty_tail)
                        if one.counterparty_tail
                        else cells.NONE,
                        cells.free_text(" ".join(one.texts) or one.text, at_most=80),
                        _became(became.get(one.id)),
                        _entry(became.get(one.id)),
                        cells.amount(one.amount_minor, one.currency, colored=True),
                    ]
                    for one in lines
                ],
                empty="It has no line.",
                note=f"The first {ROWS_SHOWN}." if obj.line_count > ROWS_SHOWN else "",
                more_url=f"{url}?statement_id={obj.id}",
                more_label="As a list",
            )
        ]


def _statuses(lines: Sequence[BankLine]) -> dict[UUID, BankLineStatus]:
    rows = BankLineStatus.objects.filter(
        organization_id__in={line.organization_id for line in lines},
        line_id__in=[line.id for line in lines],
    )
    return {row.line_id: row for row in rows}


def _reference(line: BankLine) -> str:
    own = line.creditor_references[0] if line.creditor_references else ""
    return own or line.end_to_end_id or line.account_servicer_ref or line.entry_ref


def _became(status: BankLineStatus | None) -> SafeString:
    if status is None:
        return cells.NONE
    tone = {"matched": "good", "in_suspense": "warn", "new": "busy"}.get(status.state, "flat")
    label = f"{status.state} {status.reason}".strip().replace("_", " ")
    return cells.state(status.state, label=label, tone=tone)


def _entry(status: BankLineStatus | None) -> SafeString:
    return cells.row_link("ledger_journalentry", "je", status.entry_id if status else None)


@admin.register(BankLine)
class BankLineAdmin(RecordAdmin[BankLine]):
    """Every line a bank booked, and what became of it."""

    view_capability = "banking.view_statement"
    prefix = "bl"
    title = "Bank lines"
    intro = "Every line as the bank booked it. It never changes; what became of it does."
    empty = "No line was imported yet."
    search_hint = "bl_… or the bank's own reference"
    keyset = Keyset()
    related: ClassVar[Sequence[str]] = ("organization", "bank_account")
    list_display = ("id", "booking_date", "account", "party", "said", "became", "money")
    facts = (
        "id",
        "money",
        "booking_date",
        "value_date",
        "account",
        "party",
        "became",
        "entry",
        "reference",
        "end_to_end_id",
        "account_servicer_ref",
        "bank_code",
        "statement_cell",
        "said",
    )
    filters: ClassVar[Sequence[Filter]] = (
        Filter(
            "became",
            "Became",
            lambda rows, state: rows.filter(
                pk__in=BankLineStatus.objects.filter(state=state).values("line_id")
            ),
            [(value, str(label).replace("_", " ")) for value, label in LineState.choices],
        ),
        Filter(
            "way",
            "Way",
            lambda rows, way: rows.filter(
                Q(amount_minor__gt=0) if way == "in" else Q(amount_minor__lt=0)
            ),
            [("in", "Money in"), ("out", "Money out")],
        ),
        lists.linked("bank_account_id", "Lines of one bank account"),
        lists.linked("statement_id", "Lines of one statement"),
    )

    @override
    def find(self, request: HttpRequest, rows: QuerySet[BankLine], text: str) -> QuerySet[BankLine]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(account_servicer_ref=text)

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[BankLine]) -> None:
        found = _statuses(rows)
        for row in rows:
            row.status = found.get(row.id)  # type: ignore[attr-defined]  # for the cells

    @override
    def headline(self, obj: BankLine) -> str:
        return f"Bank line of {obj.booking_date:%d %b %Y}"

    @override
    def lead(self, obj: BankLine) -> Sequence[SafeString]:
        return [self.money(obj), self.became(obj)]

    def account(self, obj: BankLine) -> SafeString:
        return cells.text(obj.bank_account)

    @shown("From or to")
    def party(self, obj: BankLine) -> SafeString:
        return cells.masked_iban(obj.counterparty_tail) if obj.counterparty_tail else cells.NONE

    @shown("Text")
    def said(self, obj: BankLine) -> SafeString:
        return cells.free_text(" ".join(obj.texts) or obj.text, at_most=120)

    @shown("Became")
    def became(self, obj: BankLine) -> SafeString:
        return _became(obj.status)  # type: ignore[attr-defined]  # attached by prepare

    def entry(self, obj: BankLine) -> SafeString:
        return _entry(obj.status)  # type: ignore[attr-defined]  # attached by prepare

    @shown("Reference")
    def reference(self, obj: BankLine) -> SafeString:
        return cells.words(obj.creditor_references)

    @shown("Statement")
    def statement_cell(self, obj: BankLine) -> SafeString:
        return cells.row_link("banking_bankstatement", "bst", obj.statement_id)

    @shown("Amount", align="end")
    def money(self, obj: BankLine) -> SafeString:
        return cells.amount(obj.amount_minor, obj.currency, colored=True)

    @override
    def get_tables(self, request: HttpRequest, obj: BankLine) -> list[Table]:
        details = list(
            BankLineDetail.objects.filter(
                organization_id=obj.organization_id, line_id=obj.id
            ).order_by("position")[: ROWS_SHOWN + 1]
        )
        if not details:
            return []
        return [
            Table(
                "Transactions in it",
                (">No.", "End-to-end id", "From or to", "Text", "Return", ">Amount"),
                [
                    [
                        cells.number(one.position),
                        cells.code(one.end_to_end_id),
                        cells.masked_iban(one.counterparty_tail)
                        if one.counterparty_tail
                        else cells.NONE,
                        cells.free_text(" ".join(one.texts), at_most=80),
                        cells.code(one.return_code),
                        cells.amount(one.amount_minor, obj.currency, colored=True),
                    ]
                    for one in details[:ROWS_SHOWN]
                ],
                note=f"The first {ROWS_SHOWN}." if len(details) > ROWS_SHOWN else "",
            )
        ]
