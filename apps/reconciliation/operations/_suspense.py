"""Lines posted whole to suspense, each dated by its booking day."""

from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Final
from uuid import UUID

from apps.banking.models import BankAccount, BankLine
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.wall_clock import first_instant_at
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.operations import AccountSpec
from apps.ledger.queries import Dating
from apps.ledger.rules import Command, Transfer

SUSPENSE_IN: Final = "suspense:in"
SUSPENSE_OUT: Final = "suspense:out"


@dataclass(slots=True)
class Suspense:
    """The suspense of one bank account, and what a transaction has still to post to it."""

    account: BankAccount
    actor: Actor = field(kw_only=True)
    now: datetime = field(kw_only=True)
    _commands: list[Command] = field(default_factory=list)
    _accounts: dict[str, UUID] = field(default_factory=dict)
    _dated: dict[date, Dating] = field(default_factory=dict)

    def put(self, line: BankLine) -> UUID:
        """Have the next `flush` post a line here, whole; return the id of its entry."""
        entry_id = new_id()
        dating = self._dating(line.booking_date)
        bank, amount = self.account.ledger_account_id, abs(line.amount_minor)
        suspense = self.account_for(line.amount_minor)
        debit, credit = (bank, suspense) if line.amount_minor > 0 else (suspense, bank)
        self._commands.append(
            Transfer(
                id=entry_id,
                debit_account_id=debit,
                credit_account_id=credit,
                amount_minor=amount,
                currency=line.currency,
                kind="bank.suspend",
                reference=f"bank_line:{line.id}:post",
                effective_at=dating.effective_at,
                metadata={"bank_line": encode_id("bl", line.id), **dating.metadata},
            )
        )
        return entry_id

    def flush(self) -> None:
        """Post what was put here, all in one call."""
        if self._commands:
            ledger.post(
                organization_id=self.account.organization_id,
                commands=self._commands,
                actor=self.actor,
                now=self.now,
            )
            self._commands = []

    def account_for(self, amount_minor: int) -> UUID:
        """Return the ledger account of credits (a positive amount), or that of debits."""
        if not self._accounts:
            currency = self.account.currency
            specs = [
                AccountSpec(f"{SUSPENSE_IN}:{currency}", "liability", currency),
                AccountSpec(f"{SUSPENSE_OUT}:{currency}", "asset", currency),
            ]
            self._accounts = ledger.open_accounts(
                organization_id=self.account.organization_id, accounts=specs, now=self.now
            )
        name = SUSPENSE_IN if amount_minor > 0 else SUSPENSE_OUT
        return self._accounts[f"{name}:{self.account.currency}"]

    def _dating(self, day: date) -> Dating:
        """Return how a line of this booking day is dated; asked once for each day."""
        if day not in self._dated:
            at = booked_at(day, self.account)
            found = books.date_facts(organization_id=self.account.organization_id, instants=[at])
            self._dated[day] = found[at]
        return self._dated[day]


def booked_at(day: date, account: BankAccount) -> datetime:
    """Return the first instant of a booking day, where the account is kept."""
    return first_instant_at(day=day, at=time(0), zone=account.zone)
