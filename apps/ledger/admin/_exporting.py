"""A statement of account as a file."""

from datetime import date, time
from typing import Any, Final, override

from django import forms
from django.core.exceptions import ValidationError
from django.http import StreamingHttpResponse

from apps.core import clock
from apps.core.admin_base import Act, ActForm, zone_of
from apps.core.ids import encode_id
from apps.core.wall_clock import day_of, first_instant_at
from apps.ledger import operations, queries
from apps.ledger.operations import StatementExport, StatementTerms
from apps.ledger.rules.months import next_month, parse_month


class ExportForm(ActForm):
    """Which statement: its month, its clock, and one kind or all."""

    period = forms.CharField(
        label="Month",
        widget=forms.TextInput(attrs={"type": "month", "placeholder": "2026-06"}),
    )
    clock = forms.ChoiceField(
        choices=[("effective", "Business time"), ("recorded", "As recorded")], initial="effective"
    )
    kind = forms.CharField(max_length=40, required=False, help_text="Empty: every kind.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        opens_at = queries.statement_opens_at(
            organization_id=self.subject.organization_id,
            account_id=self.subject.pk,
            now=clock.now(),
        )
        month = day_of(instant=opens_at or self.subject.created_at, zone=zone_of(self.subject))
        self.initial.setdefault("period", f"{month:%Y-%m}")

    def clean_period(self) -> date:
        month = parse_month(self.cleaned_data["period"])
        if month is None:
            raise ValidationError("A month is given like 2026-06.")
        return month

    @override
    def arguments(self) -> dict[str, Any]:
        given, zone = super().arguments(), zone_of(self.subject)
        month: date = given["period"]
        terms = StatementTerms(
            period=f"{month:%Y-%m}",
            since=first_instant_at(day=month, at=time.min, zone=zone),
            until=first_instant_at(day=next_month(month), at=time.min, zone=zone),
            clock=given["clock"],
            kind=given["kind"],
        )
        return {"reason": given["reason"], "terms": terms}


def _file(export: StatementExport) -> StreamingHttpResponse:
    name = f"statement-{encode_id('la', export.account_id)}-{export.terms.period}.csv"
    return StreamingHttpResponse(
        operations.write_statement_export(export),
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
    answer=_file,
    presets=("Asked for by the client.", "For the auditors."),
    note="A CSV file of one month. Who took it, why and what it held stay in the audit trail.",
)
