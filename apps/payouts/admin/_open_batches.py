"""Batches that have no row yet: what would be frozen now, and the form that freezes one of them."""

from collections.abc import Sequence
from typing import Any, Final, override
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import HttpRequest
from django.utils.dateparse import parse_date

from apps.accounts.queries import for_staff
from apps.core.admin_base import ActForm, Table, cells
from apps.core.admin_base.acts import uuid_or_none
from apps.core.money import format_minor
from apps.payouts import queries
from apps.payouts.models import Payout
from apps.payouts.queries import OpenBatch

OPEN_SHOWN: Final = 100


class FreezeForm(ActForm):
    """Which of the open batches is frozen."""

    batch = forms.ChoiceField(help_text="What is scheduled for one account, rail and day.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.open = open_batches(self.user)
        # One that a link of the list named may lie behind those that are offered.
        named = self.data.get("batch") or self.initial.get("batch") or ""
        if all(_key_text(one) != named for one in self.open):
            self.open = [*_named(self.user, named), *self.open]
        field = self.fields["batch"]
        field.choices = [(_key_text(one), _open_words(one)) for one in self.open]  # type: ignore[attr-defined]  # a choice field

    @override
    def arguments(self) -> dict[str, Any]:
        chosen = self.cleaned_data["batch"]
        return {"key": next(one.key for one in self.open if _key_text(one) == chosen)}


def open_batches(user: Any, organization_id: UUID | None = None) -> Sequence[OpenBatch]:  # noqa: ANN401  (the signed-in person)
    """Return the first of what would be frozen now, of those organizations this person may see."""
    rows = for_staff(Payout.objects.all(), user)
    if organization_id is not None:
        rows = rows.filter(organization_id=organization_id)
    return queries.preview_batches(scheduled=rows, limit=OPEN_SHOWN)


def _named(user: Any, text: str) -> Sequence[OpenBatch]:  # noqa: ANN401
    """Return the open batch whose key this is the text of, if there is one."""
    account, currency, rail, day = (*text.split("/"), "", "", "", "")[:4]
    account_id, execution_date = uuid_or_none(account), parse_date(day)
    if account_id is None or execution_date is None:
        return []
    rows = for_staff(Payout.objects.all(), user).filter(
        bank_account_id=account_id, currency=currency, rail=rail, execution_date=execution_date
    )
    return queries.preview_batches(scheduled=rows, limit=1)


def freeze_is_off(_none: None, user: Any) -> str:  # noqa: ANN401
    """Say that there is nothing to freeze, where there is not."""
    return "" if open_batches(user) else "Nothing is scheduled."


def open_batches_table(request: HttpRequest, *, form_url: str) -> Table | None:
    """Return what would be frozen now, of the organization chosen if one is; None if nothing."""
    scheduled = open_batches(request.user, uuid_or_none(request.GET.get("organization", "")))
    if not scheduled:
        return None
    note = "What would be in a batch if it were frozen now."
    if len(scheduled) == OPEN_SHOWN:
        note += f" The first {OPEN_SHOWN}: there may be more; an organization has its own."
    return Table(
        "Not frozen yet",
        ("Leaves on", "Organization", "From", "Rail", ">Payouts", ">Sum"),
        [
            [
                cells.link(f"{form_url}?{urlencode({'batch': _key_text(one)})}", _day(one)),
                cells.text(one.organization),
                cells.text(one.bank_account),
                cells.text(one.key.rail),
                cells.number(one.count),
                cells.amount(one.total_minor, one.key.currency),
            ]
            for one in scheduled
        ],
        note=note,
    )


def _key_text(one: OpenBatch) -> str:
    key = one.key
    return f"{key.bank_account_id}/{key.currency}/{key.rail}/{key.execution_date}"


def _open_words(one: OpenBatch) -> str:
    total = format_minor(one.total_minor, one.key.currency)
    whose = f"{one.organization}, {one.bank_account}"
    return f"{_day(one)} · {whose} · {one.key.rail} · {one.count} payouts · {total}"


def _day(one: OpenBatch) -> str:
    return f"{one.key.execution_date:%d %b %Y}"
