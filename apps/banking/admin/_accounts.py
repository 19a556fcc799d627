"""Our accounts at banks, and how the books stand beside their last statement."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, override
from uuid import UUID

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.banking.admin._links import statement_url
from apps.banking.models import BankAccount, BankLineStatus, BankStatement
from apps.banking.states import LineState, StatementState
from apps.core.admin_base import (
    RecordAdmin,
    Table,
    cells,
    shown,
)
from apps.ledger import queries as ledger

STATEMENTS_SHOWN = 20


@admin.register(BankAccount)
class BankAccountAdmin(RecordAdmin[BankAccount]):
    """Accounts of ours at a bank, and whether bank and books say the same."""

    view_capability = "banking.view_statement"
    prefix = "ba"
    title = "Bank accounts"
    intro = "Accounts of ours at a bank, each with its account in the books."
    empty = "No bank account has been added yet."
    tones: ClassVar[Mapping[str, str]] = {"open": "good"}
    related: ClassVar[Sequence[str]] = ("organization", "connection")
    list_display = ("label", "number", "bank", "books", "closing", "unexplained", "state")
    facts = (
        "id",
        "number",
        "bank",
        "holder_name",
        "cut",
        "books",
        "closing",
        "gap",
        "lines",
        "state",
    )

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[BankAccount]) -> None:
        by_organization: dict[UUID, list[UUID]] = {}
        for row in rows:
            by_organization.setdefault(row.organization_id, []).append(row.ledger_account_id)
        books = {
            view.account_id: view
            for organization_id, ids in by_organization.items()
            for view in ledger.list_balances(organization_id=organization_id, ids=ids)
        }
        ids = [row.id for row in rows]
        last = {one.bank_account_id: one for one in _last_statements(ids)}
        waiting = dict(
            BankLineStatus.objects.filter(
                bank_account_id__in=ids, state__in=[LineState.NEW, LineState.IN_SUSPENSE]
            )
            .order_by()
            .values_list("bank_account_id")
            .annotate(Count("id"))
        )
        for row in rows:
            row.view = books[row.ledger_account_id]  # type: ignore[attr-defined]  # for the cells
            row.last = last.get(row.id)  # type: ignore[attr-defined]  # for the cells
            row.waiting = waiting.get(row.id, 0)  # type: ignore[attr-defined]  # for the cells

    @override
    def headline(self, obj: BankAccount) -> str:
        return f"{obj.name}, {obj.currency}"

    @override
    def lead(self, obj: BankAccount) -> Sequence[SafeString]:
        return [self.books(obj), cells.text("in the books")]

    @shown("Account")
    def label(self, obj: BankAccount) -> SafeString:
        return cells.link(self.url_of(obj), obj.name)

    def number(self, obj: BankAccount) -> SafeString:
        return cells.masked_iban(obj.identification_tail)

    def bank(self, obj: BankAccount) -> SafeString:
        return cells.text(" ".join(filter(None, (obj.connection.name, obj.bic))))

    @shown("Cut-off")
    def cut(self, obj: BankAccount) -> SafeString:
        return cells.text(f"{obj.cut_off:%H:%M} {obj.zone}")

    @shown("In the books", align="end")
    def books(self, obj: BankAccount) -> SafeString:
        return cells.amount(obj.view.posted, obj.currency)  # type: ignore[attr-defined]  # prepare

    @shown("Last statement", align="end")
    def closing(self, obj: BankAccount) -> SafeString:
        last = _last(obj)
        return cells.NONE if last is None else cells.amount(last.closing_minor, obj.currency)

    @shown("Statement of")
    def gap(self, obj: BankAccount) -> SafeString:
        last = _last(obj)
        return cells.NONE if last is None else cells.day(last.closing_date)

    @shown("Lines")
    def lines(self, obj: BankAccount) -> SafeString:
        url = reverse("admin:banking_bankline_changelist")
        return cells.link(f"{url}?bank_account_id={obj.id}", "Every line of this account")

    @shown("Unexplained lines", align="end")
    def unexplained(self, obj: BankAccount) -> SafeString:
        return cells.number(obj.waiting)  # type: ignore[attr-defined]  # attached by prepare

    @override
    def get_tables(self, request: HttpRequest, obj: BankAccount) -> list[Table]:
        statements = BankStatement.objects.filter(
            organization_id=obj.organization_id, bank_account_id=obj.id
        ).order_by("-closing_date", "-id")[:STATEMENTS_SHOWN]
        url = reverse("admin:banking_bankstatement_changelist")
        return [
            Table(
                "Statements",
                ("Statement", "Closes on", "Chain", ">Lines", ">Opening", ">Closing"),
                [
                    [
                        cells.link(statement_url(one), one.statement_id or str(one)),
                        cells.day(one.closing_date),
                        cells.state(one.chain, tone="warn" if one.chain == "gap" else "flat"),
                        cells.number(one.line_count),
                        cells.amount(one.opening_minor, one.currency),
                        cells.amount(one.closing_minor, one.currency),
                    ]
                    for one in statements
                ],
                empty="No statement of this account was imported yet.",
                note=f"The last {STATEMENTS_SHOWN}." if len(statements) == STATEMENTS_SHOWN else "",
                more_url=f"{url}?bank_account_id={obj.id}",
                more_label="Every statement of this account",
            )
        ]


def _last_statements(ids: list[UUID]) -> QuerySet[BankStatement]:
    found = BankStatement.objects.filter(
        bank_account_id__in=ids, source="statement", state=StatementState.IMPORTED
    )
    ordered = found.order_by("bank_account_id", "-closing_date", "-id")
    return ordered.distinct("bank_account_id")


def _last(account: BankAccount) -> BankStatement | None:
    last: BankStatement | None = account.last  # type: ignore[attr-defined]  # by prepare
    return last
