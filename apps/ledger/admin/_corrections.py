"""Corrections by hand: an entry undone, or one posted, as two people want it (ADR 0072)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast, override
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import Act, PreviewForm, Table, cells, for_staff, lists, zone_of
from apps.core.admin_base.wall_time import WallTimeField, instant_at
from apps.core.errors import Refusal
from apps.core.ids import decode_id
from apps.core.money import format_minor, minor_from_decimal
from apps.ledger import operations, queries, registry
from apps.ledger.admin._links import account_link
from apps.ledger.models import JournalEntry, LedgerAccount
from apps.ledger.operations import EntryRequest
from apps.ledger.queries import BalanceView, EntryView, PostingView, WholeView
from apps.ledger.registry import AskedFor, Corrections
from apps.ledger.rules import BalanceAfter, Leg
from apps.ledger.rules.months import YEAR_MAX

POSTINGS_SHOWN: Final = 5
ORGANIZATIONS_MAX: Final = 20

type _Row = tuple[str, str, str]


# --- Forms --------------------------------------------------------------------------------------


class ReverseForm(PreviewForm):
    """Which business time the reversal gets."""

    at = forms.ChoiceField(
        label="Business time",
        choices=[("now", "When it is agreed to"), ("original", "That of the entry")],
        help_text="At the entry's own time, its month must be open and no later balance may break.",
    )


class PostingsWidget(forms.Widget):
    """Rows of an account, a debit and a credit."""

    @override
    def render(
        self,
        name: str,
        value: Any,
        attrs: Mapping[str, Any] | None = None,
        renderer: Any = None,
    ) -> SafeString:
        rows: list[_Row] = [row for row in value or () if any(row)]
        rows += [("", "", "")] * max(1, POSTINGS_SHOWN - len(rows))
        given = attrs or {}
        context = {
            "name": name,
            "rows": rows,
            "id": given.get("id", f"id_{name}"),
            # Of the help and of what is wrong, whose ids Django gives a field's control.
            "described": given.get("aria-describedby", ""),
        }
        return render_to_string("kassa/_postings.html", context)

    @override
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[_Row]:
        columns = [data.getlist(f"{name}_{part}") for part in ("account", "debit", "credit")]
        return list(zip(*columns, strict=False))


class PostingsField(forms.Field):
    """The postings of an entry as people type them: rows that say something."""

    widget = PostingsWidget

    @override
    def clean(self, value: Sequence[_Row]) -> list[_Row]:
        typed = [tuple(lists.typed(text) for text in row) for row in value]
        rows = [cast("_Row", row) for row in typed if any(row)]
        for number, (account, debit, credit) in enumerate(rows, 1):
            if not account or bool(debit) == bool(credit):
                msg = f"Row {number}: each row names an account, and a debit or a credit."
                raise ValidationError(msg)
        if len(rows) < 2:  # noqa: PLR2004  (what leaves one account arrives on another)
            raise ValidationError("An entry has two postings or more.")
        return rows


class AdjustForm(PreviewForm):
    """The entry to be posted; it opens with the accounts of the row it was opened from."""

    postings = PostingsField(
        help_text="Accounts by their whole code or la_… id. Debits equal credits per currency."
    )
    description = forms.CharField(max_length=500, help_text="Stands in the journal.")
    reference = forms.CharField(
        max_length=255, required=False, help_text="Optional; an entry is posted once under it."
    )
    effective_at = WallTimeField(label="Business time", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.fields["postings"].initial = _opening_rows(self.subject)
        whose = "the organization" if self.subject is None else zone_of(self.subject)
        self.fields[
            "effective_at"
        ].help_text = f"By the clocks of {whose}, in an open month. Empty: when it is agreed to."

    def clean_effective_at(self) -> datetime | None:
        typed: datetime | None = self.cleaned_data["effective_at"]
        # Nobody could ask for a statement or a balance of later, over the API or on a screen.
        if typed is not None and typed.year > YEAR_MAX:
            msg = f"Business time is of the years up to {YEAR_MAX}."
            raise ValidationError(msg)
        return typed

    def organization_id(self) -> UUID | None:
        """Return whose books are adjusted."""
        return cast("UUID", self.subject.organization_id)

    def zone(self) -> str:
        """Return by whose clocks its business time is typed."""
        return zone_of(self.subject)

    @override
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        organization_id = self.organization_id()
        if organization_id is not None and "postings" in cleaned:
            try:
                self.legs = _legs(organization_id, cleaned["postings"])
            except ValidationError as error:
                self.add_error("postings", error)
        return cleaned

    @override
    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        return {"reason": given["reason"], "entry": self.entry()}

    def entry(self) -> EntryRequest:
        """Return what is asked for."""
        return EntryRequest(
            legs=tuple(self.legs),
            reference=self.cleaned_data["reference"] or None,
            description=self.cleaned_data["description"],
            effective_at=instant_at(self.cleaned_data["effective_at"], zone=self.zone()),
        )


class AdjustAnywhereForm(AdjustForm):
    """The same, where no row says whose books they are."""

    organization = forms.ChoiceField()

    field_order = ("organization",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        rows = for_staff(self.user, Organization.objects.order_by("id"), column="id")
        seen = list(rows[:ORGANIZATIONS_MAX])
        self.zones = {str(one.id): one.time_zone for one in seen}
        choices = [(str(one.id), str(one)) for one in seen]
        self.fields["organization"].choices = choices  # type: ignore[attr-defined]  # choices

    @override
    def organization_id(self) -> UUID | None:
        chosen = self.cleaned_data.get("organization")
        return UUID(chosen) if chosen else None

    @override
    def zone(self) -> str:
        return self.zones[self.cleaned_data["organization"]]

    @override
    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"organization_id": self.organization_id()}


def _opening_rows(subject: Any) -> list[_Row]:  # noqa: ANN401  (an entry, an account, or none)
    if isinstance(subject, LedgerAccount):
        return [(subject.code, "", "")]
    view: EntryView | None = getattr(subject, "view", None)
    return [(posting.code, "", "") for posting in view.postings] if view is not None else []


def _legs(organization_id: UUID, rows: Sequence[_Row]) -> list[Leg]:
    """Return the postings that these rows mean, or say which of them means none."""
    found = _accounts(organization_id, [account for account, _, _ in rows])
    legs = []
    # What says nothing is left out when the form is drawn again: a row's number is the one seen.
    for number, (text, debit, credit) in enumerate(rows, 1):
        account = found.get(text)
        if account is None:
            msg = f"Row {number}: there is no account {text} in these books."
            raise ValidationError(msg)
        try:
            amount = minor_from_decimal(debit or credit, account.currency)
        except ValueError as error:
            msg = f"Row {number}: {error}"
            raise ValidationError(msg) from error
        if amount <= 0:
            msg = f"Row {number}: an amount is more than zero; the side says which way it goes."
            raise ValidationError(msg)
        legs.append(Leg(account.id, amount if debit else -amount, account.currency))
    if len({leg.account_id for leg in legs}) < len(legs):
        raise ValidationError("Each account stands in one row.")
    return legs


def _accounts(organization_id: UUID, texts: Sequence[str]) -> dict[str, LedgerAccount]:
    ids: dict[UUID, str] = {}
    for text in texts:
        try:
            ids[decode_id("la", text)] = text
        except Refusal:
            continue
    rows = queries.accounts(organization_id=organization_id)
    by_id = {ids[row.id]: row for row in rows.filter(id__in=list(ids))}
    return by_id | {row.code: row for row in rows.filter(code__in=texts)}


# --- What would happen --------------------------------------------------------------------------


def _preview_reversal(entry: JournalEntry, form: ReverseForm) -> list[Table]:
    found = operations.preview_reversal_by_hand(
        organization_id=entry.organization_id,
        entry_id=entry.id,
        at=form.cleaned_data["at"],
        now=clock.now(),
    )
    views = operations.prepare_reversal(organization_id=entry.organization_id, entry_id=entry.id)
    legs = [Leg(p.account_id, -p.amount_minor, p.currency) for view in views for p in view.postings]
    return [_preview(entry.organization_id, legs, found.balances)]


def _preview_adjustment(_subject: object, form: AdjustForm) -> list[Table]:
    organization_id, entry = cast("UUID", form.organization_id()), form.entry()
    outcome = operations.preview_adjustment(
        organization_id=organization_id, entry=entry, now=clock.now()
    )
    return [_preview(organization_id, entry.legs, outcome.balances)]


def _preview(organization_id: UUID, legs: Sequence[Leg], after: Sequence[BalanceAfter]) -> Table:
    ids = [leg.account_id for leg in legs]
    now = {
        view.account_id: view
        for view in queries.list_balances(organization_id=organization_id, ids=ids)
    }
    then = {balance.id: balance for balance in after}
    return Table(
        "What would be posted",
        ("Account", ">Debit", ">Credit", ">Balance now", ">Balance then", ">Available then"),
        [_previewed(leg, now[leg.account_id], then[leg.account_id]) for leg in legs],
        note="As of now; nothing was written.",
    )


def _previewed(leg: Leg, now: BalanceView, then: BalanceAfter) -> list[SafeString | str]:
    return [
        account_link(leg.account_id, now.code),
        cells.amount(leg.amount_minor, now.currency) if leg.amount_minor > 0 else "",
        cells.amount(-leg.amount_minor, now.currency) if leg.amount_minor < 0 else "",
        cells.amount(now.posted, now.currency),
        cells.amount(then.posted, now.currency),
        cells.amount(then.available, now.currency),
    ]


# --- Acts ---------------------------------------------------------------------------------------


def debits(postings: Sequence[PostingView]) -> dict[str, int]:
    """Return what an entry moves, per currency: its debits, which its credits equal."""
    sums: dict[str, int] = {}
    for posting in postings:
        if posting.amount_minor > 0:
            sums[posting.currency] = sums.get(posting.currency, 0) + posting.amount_minor
    return sums


def told_asked(asked: AskedFor) -> str:
    """Say that what takes two people was asked for."""
    return f"Asked; the request is {asked.state} until another person decides it."


def _reverse_words(entry: JournalEntry) -> str:
    whole: WholeView = entry.whole  # type: ignore[attr-defined]  # attached by prepare
    fx = whole.exchange
    if fx is not None:
        # Either entry stands for the whole (ADR 0117), and so does the button of either.
        sold = format_minor(fx.sold_minor, fx.sold_currency)
        return f"Reverse {sold} for {format_minor(fx.bought_minor, fx.bought_currency)}"
    moved = sorted(debits(whole.entry.postings).items())
    return f"Reverse {', '.join(format_minor(total, currency) for currency, total in moved)}"


def _reverse_is_off(entry: JournalEntry, _user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    refusal = operations.why_not_reversed(entry.whole)  # type: ignore[attr-defined]  # attached
    if refusal is not None:
        return refusal.message
    found: Corrections = entry.corrections  # type: ignore[attr-defined]  # attached by prepare
    return "It waits for a second person already." if found.waiting_approval_id else ""


def _adjust_is_off(row: Any, _user: Any) -> str:  # noqa: ANN401  (an entry or an account)
    if not isinstance(row, LedgerAccount):
        return ""
    is_of_fact: bool = row.is_of_fact  # type: ignore[attr-defined]  # attached by prepare
    refusal = operations.why_out_of_reach([(row.id, row.code)] if is_of_fact else [])
    return refusal.message if refusal is not None else ""


_ANOTHER_DECIDES: Final = "Another person decides; nothing is posted before."
_PRESETS: Final = ("Posted twice.", "Posted to the wrong account.", "The amount was wrong.")

REVERSE: Final = Act(
    name="reverse",
    capability="ledger.reverse_entry",
    operation=registry.request_reversal,
    subject="entry_id",
    form=ReverseForm,
    label=_reverse_words,
    off=_reverse_is_off,
    done=told_asked,
    preview=_preview_reversal,
    presets=_PRESETS,
    is_dangerous=True,
    note=(
        "A new entry takes this one back, once for ever; of an exchange both are taken back. "
        f"{_ANOTHER_DECIDES}"
    ),
)

ADJUST: Final = Act(
    name="adjust",
    capability="ledger.adjust",
    operation=registry.request_adjustment,
    form=AdjustForm,
    label=lambda row: f"Adjust {'this account' if isinstance(row, LedgerAccount) else 'by hand'}",
    off=_adjust_is_off,
    done=told_asked,
    preview=_preview_adjustment,
    note=f"A new entry, written by hand. {_ANOTHER_DECIDES}",
)

ADJUST_ANYWHERE: Final = Act(
    name="adjust",
    capability="ledger.adjust",
    operation=registry.request_adjustment,
    form=AdjustAnywhereForm,
    label=lambda _none: "Adjust the books",
    done=told_asked,
    preview=_preview_adjustment,
    on_list=True,
    note=f"A new entry, written by hand. {_ANOTHER_DECIDES}",
)
