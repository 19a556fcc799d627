"""Trial balances as trees: what every account stands at, and what a month moved."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from apps.ledger import queries as ledger

# What a person reads; a client that names accounts by short ids may have as many as customers.
LINES_OF_A_ROOT_MAX: Final = 50
LINES_MAX: Final = 500


def trial_balances(
    *, organization_id: UUID, code_prefix: str = "", currency: str = ""
) -> list[ledger.CurrencyLines]:
    """Return the trial balance per currency, accounts of one kind in one line."""
    return ledger.lines_now(
        organization_id=organization_id,
        show=_show(),
        code_prefix=code_prefix,
        currency=currency,
    )


def month_trial_balances(
    view: ledger.PeriodView, *, currency: str = "", code_prefix: str = ""
) -> list[ledger.CurrencyLines]:
    """Return a month's trial balance per currency; of a closed month, as it was stored."""
    return ledger.lines_of(view, show=_show(), currency=currency, code_prefix=code_prefix)


def _show() -> ledger.Shown:
    return ledger.Shown(LINES_MAX, LINES_OF_A_ROOT_MAX)


def prefix_of(line: ledger.TrialLine) -> str:
    """Return what the codes of a line's accounts begin with; of one account its whole code."""
    return line.account_code or line.code.split("*", maxsplit=1)[0].rstrip(ledger.MORE)


def subtotal(lines: Sequence[ledger.TrialLine], root: str) -> ledger.TrialLine | None:
    """Return the sum of a first segment's lines, if it has several."""
    own = [line for line in lines if line.root == root]
    if len(own) == 1:
        return None
    return ledger.TrialLine(
        f"{root}:{ledger.MORE}",
        "",
        sum(line.accounts for line in own),
        sum(line.opening for line in own),
        sum(line.debits for line in own),
        sum(line.credits for line in own),
    )
