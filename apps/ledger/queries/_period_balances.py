"""The trial balance of a month: the one stored with its close, or as it stands by now."""

from datetime import date
from uuid import UUID

from apps.ledger.models import LedgerAccount, Period, PeriodBalance
from apps.ledger.queries._periods import PeriodView, view_period
from apps.ledger.queries._trial_balance import AccountMovement, movements_between


def period_movements(
    *, organization_id: UUID, month: date, code_prefix: str = "", currency: str = ""
) -> list[AccountMovement]:
    """Return a month's trial balance: the one stored with its close, or as it stands by now."""
    view = view_period(organization_id=organization_id, month=month)
    return movements_of(view, code_prefix=code_prefix, currency=currency)


def movements_of(
    view: PeriodView, *, code_prefix: str = "", currency: str = ""
) -> list[AccountMovement]:
    """Return the same of a month that was read before."""
    if view.row is not None and view.is_stored:
        lines = stored_movements(view.row)
        branch = code_prefix.rstrip(":")
        return [
            line
            for line in lines
            if (not currency or line.currency == currency)
            and (not branch or line.code == branch or line.code.startswith(f"{branch}:"))
        ]
    return movements_between(
        organization_id=view.organization_id,
        since=view.starts_at,
        until=view.ends_at,
        code_prefix=code_prefix,
        currency=currency,
    )


def stored_movements(period: Period, *, closing: int | None = None) -> list[AccountMovement]:
    """Return the trial balance stored at one closing of a period, by default the last."""
    stored = PeriodBalance.objects.filter(
        organization_id=period.organization_id,
        month=period.month,
        closing=period.closings if closing is None else closing,
    )
    rows = {row.account_id: row for row in stored}
    named = LedgerAccount.objects.filter(
        organization_id=period.organization_id, id__in=list(rows)
    ).order_by("code")
    return [
        AccountMovement(
            account.id,
            account.code,
            account.type,
            account.currency,
            rows[account.id].opening_minor,
            rows[account.id].debits_minor,
            rows[account.id].credits_minor,
        )
        for account in named
    ]
