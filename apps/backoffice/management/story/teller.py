"""What the story says on the terminal."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from apps.core.money import format_minor
from apps.ledger.queries import TrialBalanceLine, trial_balance_totals

# An id in a code, shown by its last digits: a line of the table is to fit on a terminal.
_ID: Final = re.compile(r"([a-z]+)_[0-9a-z]{20}([0-9a-z]{6})")


class Teller:
    """Prints chapters, facts and tables as they happen."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._chapter = 0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        self.console.print(f"\n[bold]{self._chapter}. {title}[/bold]")

    def fact(self, text: str) -> None:
        self.console.print(f"   [green]✓[/green] {text}")

    def note(self, text: str) -> None:
        self.console.print(f"     [dim]{text}[/dim]")

    def failure(self, text: str) -> None:
        self.console.print(f"   [bold red]✗ {text}[/bold red]", soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; columns whose name ends in `>` are figures and stand right-aligned."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column.rstrip(">"), justify="right" if column[-1] == ">" else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def trial_balance(self, lines: Sequence[TrialBalanceLine]) -> None:
        """Print the trial balance, a section and a zero check per currency."""
        totals = trial_balance_totals(lines)
        for currency, (debit, credit) in sorted(totals.items()):
            table = Table(
                title=f"Trial balance, {currency}",
                title_justify="left",
                title_style="bold",
                show_footer=True,
            )
            table.add_column("Ledger account", footer="Total")
            table.add_column("Type", footer="")
            table.add_column("Debit", justify="right", footer=format_minor(debit, currency))
            table.add_column("Credit", justify="right", footer=format_minor(credit, currency))
            for line in lines:
                if line.currency == currency:
                    table.add_row(
                        _ID.sub(r"\1_…\2", line.code),
                        line.type,
                        format_minor(line.debit, currency) if line.debit else "",
                        format_minor(line.credit, currency) if line.credit else "",
                    )
            self.console.print(table)
            if debit == credit:
                self.fact(f"Debits equal credits in {currency}.")
            else:
                self.failure(f"{currency} is off by {format_minor(debit - credit, currency)}.")
