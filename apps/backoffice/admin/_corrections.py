"""Corrections of the books, as people asked for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, override

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.backoffice import operations, queries
from apps.backoffice.models import Correction, CorrectionKind
from apps.backoffice.states import CorrectionState
from apps.core.admin_base import (
    Act,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    people,
    shown,
    zone_of,
)
from apps.core.money import format_minor


def money_words(amounts: dict[str, int]) -> str:
    """Return amounts per currency as one text."""
    return ", ".join(format_minor(amount, currency) for currency, amount in amounts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionAct(Act):
    """An act on a correction: what one must hold is what asking for it took."""

    @override
    def needed(self, subject: Correction) -> str:
        return operations.ACTS[subject.kind]


def _withdraw_is_off(correction: Correction, _user: Any) -> str:  # noqa: ANN401
    if correction.state == CorrectionState.WAITING:
        return ""
    return f"It was {correction.state} already."


@admin.register(Correction)
class CorrectionAdmin(RecordAdmin[Correction]):
    """What people asked to have corrected in the books."""

    view_capability = "ledger.view_ledger"
    prefix = "cor"
    intro = "Entries that people asked for by hand. Another person decides, in Approvals."
    empty = "Nobody has asked for a correction. One begins on the page of an entry, or in Journal."
    tones: ClassVar[Mapping[str, str]] = {"waiting": "busy", "dropped": "flat"}
    search_hint = "cor_…"
    list_display = ("id", "kind", "moves", "state", "asked_by", "requested_at", "became")
    facts = (
        "id",
        "kind",
        "undoes",
        "became",
        "decided_in",
        "asked",
        "agreed",
        "closed_at",
        "reason",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", CorrectionState.choices),
        lists.choice("kind", CorrectionKind.choices),
    )
    acts = (
        CorrectionAct(
            name="withdraw",
            capability="ledger.adjust",
            operation=operations.withdraw_correction,
            label=lambda _correction: "Withdraw the request",
            off=_withdraw_is_off,
            done=lambda correction: f"It is {correction.state}; nothing was posted.",
            is_dangerous=True,
        ),
    )

    @override
    def headline(self, obj: Correction) -> str:
        return f"{obj.get_kind_display()} of {money_words(queries.sums_moved(obj))}"

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[Correction]) -> None:
        names = people({who for row in rows for who in (row.requested_by, row.approved_by)})
        for row in rows:
            row.people = names  # type: ignore[attr-defined]  # attached for the cells

    @shown("Amount", align="end")
    def moves(self, obj: Correction) -> SafeString:
        return cells.amounts(queries.sums_moved(obj))

    def undoes(self, obj: Correction) -> SafeString:
        return cells.row_link("ledger_journalentry", "je", obj.entry_id)

    @shown("Decided in")
    def decided_in(self, obj: Correction) -> SafeString:
        request_id = queries.find_approval_of(obj)
        return cells.row_link("approvals_approvalrequest", "apr", request_id)

    @shown("Posted as")
    def became(self, obj: Correction) -> SafeString:
        return cells.row_link("ledger_journalentry", "je", obj.posted_id)

    def asked_by(self, obj: Correction) -> SafeString:
        return _person(obj, obj.requested_by)

    @shown("Asked by")
    def asked(self, obj: Correction) -> SafeString:
        return _done_by(obj, obj.requested_by, obj.requested_at)

    @shown("Agreed by")
    def agreed(self, obj: Correction) -> SafeString:
        return _done_by(obj, obj.approved_by, obj.closed_at)

    @override
    def get_tables(self, request: HttpRequest, obj: Correction) -> list[Table]:
        moved = cells.amounts(queries.sums_moved(obj))
        return [
            Table(
                "Postings",
                ("Account", ">Debit", ">Credit"),
                [
                    [
                        _account(leg),
                        _side(leg["amount_minor"], leg["currency"]),
                        _side(-leg["amount_minor"], leg["currency"]),
                    ]
                    for leg in obj.legs
                ],
                totals=["Sum", moved, moved],
                note="As they were asked for.",
            )
        ]


def _person(obj: Correction, principal: str) -> SafeString:
    names: Mapping[str, str] = obj.people  # type: ignore[attr-defined]  # attached by prepare
    return cells.text(names.get(principal, principal))


def _done_by(obj: Correction, principal: str, at: datetime | None) -> SafeString:
    names: Mapping[str, str] = obj.people  # type: ignore[attr-defined]  # attached by prepare
    return cells.done_by(principal, names, at, zone=zone_of(obj))


def _account(leg: Mapping[str, Any]) -> SafeString:
    url = reverse("admin:ledger_ledgeraccount_change", args=[leg["account"]])
    return cells.cut(leg["code"], url=url, head=24, tail=16)


def _side(amount_minor: int, currency: str) -> SafeString | str:
    return cells.amount(amount_minor, currency) if amount_minor > 0 else ""
