"""
A batch of plain transfers: posted without an outcome for each of thousands.

Of a batch of which nothing has to be decided each transfer would have the same outcome, which costs
more to make than what it says. So `rules.post_plainly` counts up what they come to, under the same
locks, and the same statement writes the same rows. Whatever is not plain, by a single one of them,
is the engine's, and so are all reasons (ADR 0189).
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.ledger import queries, rules
from apps.ledger.operations import _writing
from apps.ledger.operations._origin import Origin
from apps.ledger.queries import PendingBalances
from apps.ledger.rules import BalanceAfter, Transfer


def post(
    *, organization_id: UUID, commands: Sequence[Transfer], origin: Origin, now: datetime
) -> tuple[tuple[BalanceAfter, ...] | None, PendingBalances | None]:
    """
    Post a client's transfers, if nothing has to be decided of any; return their accounts after it.

    Otherwise there are none, and nothing is written: the engine has them, with the balances if they
    were locked for it. Accounts come in the order in which they are named first.
    """
    references = [command.reference for command in commands if command.reference]
    if not _may_be_plain(commands, references):
        return None, None
    # By the integers in them: an id compares in Python.
    named = {command.debit_account_id.int: command.debit_account_id for command in commands}
    named |= {command.credit_account_id.int: command.credit_account_id for command in commands}
    locked = queries.ask_balances(organization_id=organization_id, account_ids=named.values())
    stands = queries.ask_standing(organization_id=organization_id, references=references)
    # Asked first: what that look met is met here, and not by whatever comes after it.
    if stands() or (posted := rules.post_plainly(locked.by_number(), commands, now=now)) is None:
        return None, locked
    _writing.write_plainly(
        organization_id=organization_id, commands=commands, posted=posted, origin=origin, now=now
    )
    return posted.balances, None


def _may_be_plain(commands: Sequence[Transfer], references: Sequence[str]) -> bool:
    return (
        bool(commands)
        and not any(
            command.effective_at or command.up_to or command.force or command.linked
            for command in commands
        )
        # What stands under one that comes twice is the first of them, which is not there yet.
        and len(set(references)) == len(references)
        and not any(map(rules.is_reserved, references))
    )
