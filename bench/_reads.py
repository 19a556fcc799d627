"""
The reads that `ledger_reads` times, as a child on the large database. A new one is a line in READS.

Each is called with a `Subject`: the organisation, and in turn each of its busiest accounts, its
busiest wallets and a few quiet ones. UNSEALED are those that ask of the month under way, on a copy
in which the sealer has not come to the last of what was posted.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from apps.accounts.models import Organization
from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.ledger import operations, queries
from apps.ledger.rules import Transfer

ACTOR: Final = Actor.job("bench")
_BATCH: Final = 8_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What one call is about: an account, and a month in the middle of the history."""

    organization_id: UUID
    account_id: UUID
    turn: int
    since: datetime
    until: datetime

    @property
    def at(self) -> datetime:
        """An instant inside of the month: nothing that is summed by months ends there."""
        return self.since + (self.until - self.since) / 2


def _statement(subject: Subject) -> object:
    return queries.get_statement(
        organization_id=subject.organization_id, account_id=subject.account_id,
        since=subject.since, until=subject.until,
    )  # fmt: skip


def _statement_further_on(subject: Subject) -> object:
    # Behind a cursor of the month's middle.
    return queries.get_statement(
        organization_id=subject.organization_id, account_id=subject.account_id,
        since=subject.since, until=subject.until,
        ask=queries.LinesAsked(after=queries.Position(subject.at, 0)),
    )  # fmt: skip


def _statement_as_recorded(subject: Subject) -> object:
    return queries.get_statement(
        organization_id=subject.organization_id, account_id=subject.account_id,
        since=subject.since, until=subject.until, clock="recorded",
    )  # fmt: skip


def _balance_as_of(subject: Subject) -> object:
    return _balances(subject, clock="effective", account_id=subject.account_id)


def _balance_as_recorded(subject: Subject) -> object:
    return _balances(subject, clock="recorded", account_id=subject.account_id)


def _balances(subject: Subject, **asked: Any) -> object:  # noqa: ANN401  (a page's own fields)
    return queries.page_of_balances_at(
        organization_id=subject.organization_id, at=subject.at, ask=queries.PageAsked(100), **asked
    )


def _trial_balance(subject: Subject) -> object:
    # In the middle of a month, with the totals of all accounts: a whole month is nearer at hand.
    return queries.page_until(
        organization_id=subject.organization_id, until=subject.at, ask=queries.PageAsked(100)
    )


def _trial_balance_of_a_month(subject: Subject) -> object:
    return _of_period(subject, queries.PageAsked(100))


def _trial_balance_further_on(subject: Subject) -> object:
    return _of_period(subject, queries.PageAsked(100, after=subject.account_id))


def _of_period(subject: Subject, ask: queries.PageAsked) -> object:
    return queries.page_of_period(
        organization_id=subject.organization_id, month=subject.since.date(), ask=ask
    )


def _balance_sheet(subject: Subject) -> object:
    return queries.balance_sheets(organization_id=subject.organization_id, at=subject.at)


def _whole_tree(subject: Subject) -> object:
    return _balances(subject, clock="effective")


def _entries_of_account(subject: Subject) -> object:
    return _search(subject, account_id=subject.account_id)


def _entries_of_a_month(subject: Subject) -> object:
    return _search(subject, effective=queries.Window(subject.since, subject.until))


def _search(subject: Subject, **asked: Any) -> object:  # noqa: ANN401  (a search's own fields)
    search = queries.Search(organization_id=subject.organization_id, now=clock.now(), **asked)
    return queries.list_entries(search=search, ask=queries.Ask(50))


def _postings(subject: Subject) -> object:
    return _list_postings(subject)


def _postings_further_on(subject: Subject) -> object:
    # Behind a cursor of the month's middle.
    return _list_postings(
        subject,
        place=queries.Place("effective_at", instant=subject.at),
        effective=queries.Window(subject.since, subject.until),
    )


def _postings_of_account(subject: Subject) -> object:
    return _list_postings(subject, account_id=subject.account_id)


def _postings_of_a_month(subject: Subject) -> object:
    return _list_postings(subject, effective=queries.Window(subject.since, subject.until))


def _postings_of_amount(subject: Subject) -> object:
    return _list_postings(
        subject, amount_min=50_000 + subject.turn, amount_max=50_000 + subject.turn
    )


def _list_postings(
    subject: Subject,
    place: queries.Place | None = None,
    **asked: Any,  # noqa: ANN401  (a search's own fields)
) -> object:
    search = queries.Search(organization_id=subject.organization_id, now=clock.now(), **asked)
    return queries.list_postings(search=search, ask=queries.Ask(50, place))


def _search_account(subject: Subject) -> object:
    window = queries.Window(subject.since, subject.until)
    return _search(subject, account_id=subject.account_id, effective=window)


def _search_amount(subject: Subject) -> object:
    # What seeded pay-ins come to lies between 20,000 and 282,143: few are exactly one amount.
    return _search(subject, amount_min=50_000 + subject.turn, amount_max=50_000 + subject.turn)


def _search_kind(subject: Subject) -> object:
    window = queries.Window(subject.since, subject.until)
    return _search(subject, kind="payout", recorded=window)


def _search_for_nothing(subject: Subject) -> object:
    # Of a kind that is common, and by somebody who never posted it.
    window = queries.Window(subject.since, subject.until)
    return _search(subject, kind="payout", actor="staff:", recorded=window)


def _search_metadata(subject: Subject) -> object:
    return _search(subject, metadata={"order": f"ord_{997 * subject.turn}"})


def _search_reference(subject: Subject) -> object:
    return _search(subject, reference=f"seed-out-{997 * subject.turn}")


READS: Final[Mapping[str, Callable[[Subject], object]]] = {
    "statement": _statement,
    "statement_further_on": _statement_further_on,
    "statement_as_recorded": _statement_as_recorded,
    "balance_as_of": _balance_as_of,
    "balance_as_recorded": _balance_as_recorded,
    "trial_balance": _trial_balance,
    "trial_balance_of_a_month": _trial_balance_of_a_month,
    "trial_balance_further_on": _trial_balance_further_on,
    "balance_sheet": _balance_sheet,
    "balances_of_all_as_of": _whole_tree,
    "entries_of_account": _entries_of_account,
    "entries_of_a_month": _entries_of_a_month,
    "postings": _postings,
    "postings_further_on": _postings_further_on,
    "postings_of_account": _postings_of_account,
    "postings_of_a_month": _postings_of_a_month,
    "postings_of_amount": _postings_of_amount,
    "search_account": _search_account,
    "search_amount": _search_amount,
    "search_kind": _search_kind,
    "search_for_nothing": _search_for_nothing,
    "search_metadata": _search_metadata,
    "search_reference": _search_reference,
}
UNSEALED: Final[Mapping[str, Callable[[Subject], object]]] = {
    "statement_of_this_month": _statement,
    "statement_of_this_month_further_on": _statement_further_on,
    "trial_balance_of_this_month": _trial_balance_of_a_month,
}


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, dict[str, float]]]:
    """
    Choose the subjects and call each read once; return what times `rounds` calls of each.

    With `unsealed` so many transfers are posted first, and the reads are those of this month.
    """
    subjects, reads = _choose(order["rounds"]), READS
    if order.get("unsealed"):
        _post(subjects[0].organization_id, order["unsealed"])
        now, reads = clock.now(), UNSEALED
        month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        subjects = [replace(subject, since=month, until=now) for subject in subjects]
    for read in reads.values():
        read(subjects[0])

    def run() -> dict[str, dict[str, float]]:
        return {name: _time(read, subjects) for name, read in reads.items()}

    return run


def _post(organization_id: UUID, count: int) -> None:
    """Post pay-ins from the busiest bank to the wallets in turn, the busiest first."""
    views = _busiest_first(organization_id)
    [bank, *_] = [view for view in views if view.code.startswith("bank:")]
    wallets = [view for view in views if view.code.startswith("wallets:")]
    for first in range(0, count, _BATCH):
        transactions.outermost(operations.post)(
            organization_id=organization_id,
            commands=[
                Transfer(
                    id=new_id(),
                    debit_account_id=bank.account_id,
                    credit_account_id=wallets[place % len(wallets)].account_id,
                    currency=bank.currency,
                    amount_minor=1,
                )
                for place in range(first, min(count, first + _BATCH))
            ],
            actor=ACTOR,
            now=clock.now(),
        )


def _busiest_first(organization_id: UUID) -> list[queries.BalanceView]:
    views = queries.list_balances(organization_id=organization_id)
    return sorted(views, key=lambda view: -view.version)


def _choose(count: int) -> list[Subject]:
    [organization_id] = Organization.objects.filter(mode="live").values_list("id", flat=True)
    views = _busiest_first(organization_id)
    until = (clock.now() - timedelta(days=300)).replace(day=1, hour=0, minute=0, second=0)
    since = (until - timedelta(days=1)).replace(day=1)
    return [
        Subject(organization_id, view.account_id, turn, since, until)
        for turn, view in enumerate([*views[: count - 5], *views[-5:]])
    ]


def _time(read: Callable[[Subject], object], subjects: list[Subject]) -> dict[str, float]:
    spent = []
    for subject in subjects:
        started = time.perf_counter()
        read(subject)
        spent.append(1000 * (time.perf_counter() - started))
    return {"slowest": max(spent), "median": statistics.median(spent)}
