"""
The reads that `ledger_reads` times, as a child on the large database. A new one is a line in READS.

Each is called with a `Subject`: the organisation, and in turn each of its busiest accounts, its
busiest wallets and a few quiet ones.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from apps.accounts.models import Organization
from apps.core import clock
from apps.ledger import queries


@dataclass(frozen=True, slots=True)
class Subject:
    """What one call is about."""

    organization_id: UUID
    account_id: UUID


def _past(subject: Subject) -> datetime:
    """Return an instant in the middle of a month, some way back from the account's newest."""
    latest = queries.latest_business_time(
        organization_id=subject.organization_id, account_id=subject.account_id
    )
    return (latest or clock.now()) - timedelta(days=45)


def _statement(subject: Subject) -> object:
    at = _past(subject)
    return queries.get_statement(
        organization_id=subject.organization_id,
        account_id=subject.account_id,
        since=at - timedelta(days=30),
        until=at,
    )


def _statement_as_recorded(subject: Subject) -> object:
    at = _past(subject)
    return queries.get_statement(
        organization_id=subject.organization_id,
        account_id=subject.account_id,
        since=at - timedelta(days=30),
        until=at,
        clock="recorded",
    )


def _balance_at(subject: Subject) -> object:
    return queries.list_balances_at(
        organization_id=subject.organization_id, account_id=subject.account_id, at=_past(subject)
    )


def _tree_at(subject: Subject) -> object:
    return queries.list_balances_at(organization_id=subject.organization_id, at=_past(subject))


def _month(subject: Subject) -> object:
    at = _past(subject)
    return queries.movements_between(
        organization_id=subject.organization_id, since=at - timedelta(days=30), until=at
    )


def _trial_balance(subject: Subject) -> object:
    return queries.trial_balance(organization_id=subject.organization_id)


def _entries_of_account(subject: Subject) -> object:
    search = queries.Search(
        organization_id=subject.organization_id, now=clock.now(), account_id=subject.account_id
    )
    return queries.list_entries(search=search, ask=queries.Ask(50))


READS: Final[Mapping[str, Callable[[Subject], object]]] = {
    "statement": _statement,
    "statement_as_recorded": _statement_as_recorded,
    "balance_at": _balance_at,
    "tree_at": _tree_at,
    "trial_balance_of_30_days": _month,
    "trial_balance": _trial_balance,
    "entries_of_account": _entries_of_account,
}


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, dict[str, float]]]:
    """Choose the subjects and call each read once; return what times `rounds` calls of each."""
    subjects = _choose(order["rounds"])
    for read in READS.values():
        read(subjects[0])

    def run() -> dict[str, dict[str, float]]:
        return {name: _time(read, subjects) for name, read in READS.items()}

    return run


def _choose(count: int) -> list[Subject]:
    [organization_id] = Organization.objects.filter(mode="live").values_list("id", flat=True)
    views = queries.list_balances(organization_id=organization_id)
    views.sort(key=lambda view: -view.version)
    return [
        Subject(organization_id, view.account_id) for view in [*views[: count - 5], *views[-5:]]
    ]


def _time(read: Callable[[Subject], object], subjects: list[Subject]) -> dict[str, float]:
    spent = []
    for subject in subjects:
        started = time.perf_counter()
        read(subject)
        spent.append(1000 * (time.perf_counter() - started))
    return {"slowest": max(spent), "median": statistics.median(spent)}
