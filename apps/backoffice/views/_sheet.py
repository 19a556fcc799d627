"""The balance sheet below the trial balance: what that comes to, by type."""

from collections.abc import Sequence

from apps.core.admin_base import Table, cells
from apps.ledger import queries as ledger


def balance_sheet(found: Sequence[ledger.CurrencyLines], *, code: str) -> Table | None:
    """Return a line for each currency of a trial balance; of a branch alone there is no sheet."""
    if code or not found:
        return None
    return Table(
        "Balance sheet",
        (
            "Currency",
            ">Assets",
            ">Liabilities",
            ">Equity",
            ">Income",
            ">Expenses",
            ">Result",
            "In words",
        ),
        [
            [
                cells.text(one.currency),
                *(cells.amount(sum_, one.currency) for sum_ in _sums(one.sheet)),
                cells.state("balanced", label="balanced to the unit", tone="good")
                if one.sheet.is_balanced
                else cells.state("off", label="the books are off", tone="bad"),
            ]
            for one in found
        ],
        note=(
            "Assets are liabilities, equity and result together. The result is income less"
            " expenses since the books began."
        ),
    )


def _sums(sheet: ledger.BalanceSheet) -> tuple[int, ...]:
    return (
        sheet.assets,
        sheet.liabilities,
        sheet.equity,
        sheet.income,
        sheet.expenses,
        sheet.result,
    )
