"""The chains of statements that a file extends."""

from dataclasses import dataclass, field, replace
from uuid import UUID

from apps.banking import queries
from apps.banking.models import BankAccount
from apps.banking.rules import KnownStatement, Placement, StatementFacts
from apps.banking.states import Chain


@dataclass(slots=True)
class Chains:
    """
    The chains of the accounts a file is of, which are locked meanwhile.

    Each is read once, and then follows what the file adds: a file may hold a year of statements,
    and an account's chain those of many years.
    """

    _known: dict[UUID, list[KnownStatement]] = field(default_factory=dict)

    def of(self, account: BankAccount) -> list[KnownStatement]:
        """Return the account's chain as it is now."""
        if account.id not in self._known:
            self._known[account.id] = queries.list_known_statements(
                organization_id=account.organization_id, bank_account_id=account.id
            )
        return self._known[account.id]

    def add(
        self, account: BankAccount, *, id_: UUID, facts: StatementFacts, placement: Placement
    ) -> None:
        """Take note of a statement that was placed in the account's chain."""
        known = self.of(account)
        for at, each in enumerate(known):
            if each.id == placement.previous:
                known[at] = replace(each, is_followed=True)
            if each.id == placement.closes_gap_of:
                known[at] = replace(each, chain=Chain.FOLLOWS)
        known.append(
            KnownStatement(
                id=id_,
                facts=facts,
                chain=placement.chain,
                is_followed=placement.closes_gap_of is not None,
            )
        )
