"""A statement of account, or a trial balance, as a file."""

from collections.abc import Iterable
from datetime import date
from typing import Any, Final, override
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.http import StreamingHttpResponse

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import Act, ActForm, for_staff, lists, zone_of
from apps.core.ids import encode_id
from apps.core.wall_clock import day_of
from apps.ledger import operations, queries
from apps.ledger.operations import (
    StatementExport,
    StatementTerms,
    TrialBalanceExport,
    TrialBalanceTerms,
)
from apps.ledger.rules.months import parse_month

# As many as the trial balance itself offers.
ORGANIZATIONS_MAX: Final = 100


class MonthField(forms.CharField):
    """A month as people and browsers write it, and its first day; None where it may be empty."""

    widget = forms.TextInput(attrs={"type": "month", "placeholder": "2026-06"})

    @override
    def clean(self, value: Any) -> date | None:
        typed: str = super().clean(value)
        month = parse_month(typed)
        if typed and month is None:
            raise ValidationError("A month is given like 2026-06.")
        return month


class ExportForm(ActForm):
    """Which statement: its month, its clock, and one kind or all."""

    period = MonthField(label="Month")
    clock = forms.ChoiceField(
        choices=[("effective", "Business time"), ("recorded", "As recorded")], initial="effective"
    )
    kind = forms.CharField(max_length=40, required=False, help_text="Empty: every kind.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        opens_at = queries.statement_opens_at(self.subject, now=clock.now())
        month = day_of(instant=opens_at or self.subject.created_at, zone=zone_of(self.subject))
        self.initial.setdefault("period", f"{month:%Y-%m}")

    @override
    def arguments(self) -> dict[str, Any]:
        given, zone = super().arguments(), zone_of(self.subject)
        month: date = given["period"]
        since, until = queries.month_bounds(month, zone=zone)
        terms = StatementTerms(
            period=f"{month:%Y-%m}",
            since=since,
            until=until,
            clock=given["clock"],
            kind=given["kind"],
        )
        return {"reason": given["reason"], "terms": terms}


class TrialBalanceForm(ActForm):
    """Which trial balance: whose, of which month or of now, and of what part of the accounts."""

    organization = forms.ChoiceField()
    period = MonthField(label="Month", required=False, help_text="Empty: as of now.")
    currency = forms.CharField(max_length=3, required=False, help_text="Empty: every currency.")
    code = forms.CharField(
        label="Branch", max_length=200, required=False, help_text="Empty: all accounts."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        seen = for_staff(self.user, Organization.objects.order_by("mode", "id"), column="id")
        self.fields["organization"].choices = [  # type: ignore[attr-defined]  # a choice field
            (str(one.id), str(one)) for one in seen[:ORGANIZATIONS_MAX]
        ]

    def clean_currency(self) -> str:
        currency: str = self.cleaned_data["currency"]
        return currency.upper()

    @override
    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        return {
            "reason": given["reason"],
            "organization_id": UUID(given["organization"]),
            "terms": TrialBalanceTerms(
                month=given["period"],
                code_prefix=lists.typed(given["code"]),
                currency=given["currency"],
            ),
        }


def _statement_file(export: StatementExport) -> StreamingHttpResponse:
    name = f"statement-{encode_id('la', export.account_id)}-{export.terms.period}.csv"
    return _csv(name, operations.write_statement_export(export))


def _trial_balance_file(export: TrialBalanceExport) -> StreamingHttpResponse:
    # Of now it is named by the day: names are ours, never from data.
    month, day = export.terms.month, export.started_at
    of = f"{month:%Y-%m}" if month else f"{day:%Y-%m-%d}"
    name = f"trial-balance-{encode_id('org', export.organization_id)}-{of}.csv"
    return _csv(name, operations.write_trial_balance_export(export))


def _csv(name: str, written: Iterable[bytes]) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        written,
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


EXPORT: Final = Act(
    name="export",
    capability="core.export",
    operation=operations.begin_statement_export,
    subject="account_id",
    form=ExportForm,
    label=lambda _account: "Export the statement",
    answer=_statement_file,
    presets=("Asked for by the client.", "For the auditors."),
    note=(
        "A CSV file of one month, of 50,000 rows at most. Who took it, why and what it held stay "
        "in the audit trail."
    ),
)

EXPORT_TRIAL_BALANCE: Final = Act(
    name="trial-balance",
    capability="core.export",
    operation=operations.begin_trial_balance_export,
    form=TrialBalanceForm,
    label=lambda _none: "Export the trial balance",
    answer=_trial_balance_file,
    presets=("For the month's close.", "For the auditors."),
    on_list=True,
    note=(
        "A CSV file of the lines as they are on the screen, each by itself where the screen folds "
        "a long branch, with the balance sheet unless it is of one branch; 50,000 rows at most. "
        "Who took it, why and what it held stay in the audit trail."
    ),
)
