"""
What the engine writes: the same few set-based statements for one command and for ten thousand.

Entries, postings and balances go in one statement, so the trigger that balances them sees each
entry whole, and a transfer costs one round trip.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, Final, cast
from uuid import UUID

from apps.core import outbox, statements
from apps.core.ids import encode_ids, encode_often
from apps.core.outbox import Published
from apps.core.wall_clock import print_instant
from apps.ledger.events import JournalEntryPosted
from apps.ledger.operations import _hold_writing
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import (
    BalanceState,
    CaptureHold,
    Outcome,
    PlainlyPosted,
    PostEntry,
    State,
    Transfer,
)

# All entries of a statement are recorded at one instant, that of the statement, which is sent
# under the locks: so an account's versions never run against its recorded times. An entry that is
# imported keeps the time at which it was recorded first. Postings go in by account, as their
# largest index has them: neighbours on a page are written one after the other. Plain transfers are
# written by `kassa_try_transfer` and its like instead, which tests hold against this. Whose
# balances are updated is hidden from the planner: of one that came after the last ANALYZE it
# expects a single account, and would compare each of thousands with each (ADR 0160).
_WRITE: Final = """
    WITH entries AS (
        INSERT INTO ledger_journal_entry
            (id, organization_id, kind, reference, description, effective_at, recorded_at,
             reverses_id, actor, metadata)
        SELECT e.id, %(org)s, e.kind, e.reference, e.description, e.effective_at,
               COALESCE(e.recorded_at, statement_timestamp()), e.reverses, e.actor,
               e.metadata::jsonb
          FROM unnest(%(entry_ids)s::uuid[],
                      /* same */ %(kinds)s::text[], %(effective)s::timestamptz[],
                      %(recorded)s::timestamptz[], %(reverses)s::uuid[], %(actors)s::text[],
                      /* same */ %(references)s::text[], %(descriptions)s::text[],
                      %(metadata)s::text[])
               AS e(id, kind, effective_at, recorded_at, reverses, actor,
                    reference, description, metadata)
    ), postings AS (
        INSERT INTO ledger_posting
            (organization_id, entry_id, number, account_id, amount_minor, currency,
             account_version, balance_after_minor, effective_at, recorded_at)
        SELECT %(org)s, p.entry_id, p.number, p.account_id, p.amount, p.currency, p.version,
               p.balance_after, p.effective_at, COALESCE(p.recorded_at, statement_timestamp())
          FROM unnest(%(posting_entries)s::uuid[], %(numbers)s::int[], %(accounts)s::uuid[],
                      %(amounts)s::bigint[], %(versions)s::bigint[], %(after)s::bigint[],
                      /* same */ %(currencies)s::text[], %(posting_effective)s::timestamptz[],
                      %(posting_recorded)s::timestamptz[])
               AS p(entry_id, number, account_id, amount, version, balance_after,
                    currency, effective_at, recorded_at)
         ORDER BY p.account_id, p.version
    ), balances AS (
        UPDATE ledger_balance AS b
           SET posted_debits = n.posted_debits, posted_credits = n.posted_credits,
               pending_debits = n.pending_debits, pending_credits = n.pending_credits,
               version = n.version, latest_effective_at = n.latest_effective_at
          FROM unnest(%(balance_ids)s::uuid[], %(pd)s::bigint[], %(pc)s::bigint[], %(bv)s::bigint[],
                      /* same */ %(latest)s::timestamptz[],
                      /* same */ %(nd)s::bigint[], %(nc)s::bigint[])
               AS n(id, posted_debits, posted_credits, version, latest_effective_at,
                    pending_debits, pending_credits)
         WHERE b.organization_id = (SELECT %(org)s) AND b.id = n.id
    )
    SELECT statement_timestamp()
"""


# A tuple, which is made once: a union is made wherever it is written, and asked twice an entry.
_POSTING: Final = (Transfer, PostEntry, CaptureHold)

# The columns of no lines.
_NONE: Final = ((),) * 6

# From so many entries on, what writes them is sent ahead of the events.
_MANY: Final = 250


def write(
    *,
    organization_id: UUID,
    before: Mapping[UUID, BalanceState],
    after: State,
    outcomes: Sequence[Outcome],
    origins: Sequence[Origin],
    now: datetime,
) -> statements.Answer | None:
    """
    Write what was decided: entries, postings, balances, holds, and an event for each.

    `origins` has one for all commands, or one for each. Returned is one row, with the time at which
    Postgres recorded the entries, to be read once they are committed; None if no balance changed.
    """
    each = repeat(origins[0], len(outcomes)) if len(origins) == 1 else origins
    made = list(zip(outcomes, each, strict=True))
    posted = [(outcome, origin) for outcome, origin in made if outcome.lines]
    # The state after has the same accounts in the same order.
    changed = [
        balance
        for old, balance in zip(before.values(), after.balances.values(), strict=True)
        if balance is not old and _differs(old, balance)
    ]
    recorded = None
    if changed:
        # Where only holds changed, nothing is posted and the statement changes balances alone.
        recorded = statements.send(
            _WRITE,
            {
                "org": organization_id,
                **_columns(posted, now),
                **_balance_columns(changed),
            },
        )
        if len(posted) >= _MANY:
            # Postgres writes these while their events are made, which takes half as long.
            statements.start()
    outbox.publish_taken(_entry_events(organization_id, posted, now))
    _hold_writing.write(organization_id=organization_id, after=after, made=made, now=now)
    return recorded


def write_plainly(
    *,
    organization_id: UUID,
    commands: Sequence[Transfer],
    posted: PlainlyPosted,
    origin: Origin,
    now: datetime,
) -> None:
    """Write the rows that `write` would of these transfers, all of which were posted."""
    ids, count = [command.id for command in commands], len(commands)
    at, nothing = [posted.at] * (2 * count), [None] * (2 * count)
    currencies = [command.currency for command in commands]
    statements.send(
        _WRITE,
        {
            "org": organization_id,
            "entry_ids": statements.uuids(ids),
            "kinds": statements.texts([command.kind for command in commands]),
            "references": statements.texts([command.reference for command in commands]),
            "descriptions": statements.texts([command.description for command in commands]),
            "effective": statements.instants(at[:count]),
            "recorded": statements.instants(nothing[:count]),
            "reverses": statements.uuids(nothing[:count]),
            "actors": statements.texts([origin.actor] * count),
            "metadata": statements.texts([metadata_of(command) for command in commands]),
            "posting_entries": statements.uuids(_twice(ids)),
            "numbers": statements.int4s([1, 2] * count),
            "accounts": statements.uuids(posted.accounts),
            "amounts": statements.int8s(posted.amounts),
            "currencies": statements.texts(_twice(currencies)),
            "versions": statements.int8s(posted.versions),
            "after": statements.int8s(posted.balances_after),
            "posting_effective": statements.instants(at),
            "posting_recorded": statements.instants(nothing),
            **_balance_columns(posted.changed),
        },
    )
    if count >= _MANY:
        # As in `write`.
        statements.start()
    asked = [(command, origin) for command in commands]
    outbox.publish_taken(events_of_transfers(organization_id, asked, posted.at, now=now))


def _twice[T](values: Sequence[T]) -> list[T]:
    return list(chain.from_iterable(zip(values, values, strict=True)))


def _differs(old: BalanceState, new: BalanceState) -> bool:
    return (
        old.version != new.version
        or old.pending_debits != new.pending_debits
        or old.pending_credits != new.pending_credits
    )


def _columns(posted: Sequence[tuple[Outcome, Origin]], now: datetime) -> dict[str, object]:
    """Return the columns of the entries, and of their postings."""
    commands = [_posting_command(outcome) for outcome, _ in posted]
    ids = [outcome.entry_id for outcome, _ in posted]
    effective = [outcome.effective_at or now for outcome, _ in posted]
    # What a transfer never says.
    entries = [command if type(command) is PostEntry else None for command in commands]
    recorded = [entry.recorded_at if entry else None for entry in entries]
    lines = [line for outcome, _ in posted for line in outcome.lines]
    accounts, amounts, currencies, versions, after, _ = zip(*lines, strict=True) if lines else _NONE
    counts = [len(outcome.lines) for outcome, _ in posted]
    return {
        "entry_ids": statements.uuids(ids),
        "kinds": statements.texts([command.kind for command in commands]),
        "references": statements.texts([command.reference for command in commands]),
        "descriptions": statements.texts([command.description for command in commands]),
        "effective": statements.instants(effective),
        "recorded": statements.instants(recorded),
        "reverses": statements.uuids([entry.reverses if entry else None for entry in entries]),
        "actors": statements.texts(
            [
                (entry and entry.actor) or origin.actor
                for entry, (_, origin) in zip(entries, posted, strict=True)
            ]
        ),
        "metadata": statements.texts([metadata_of(command) for command in commands]),
        "posting_entries": statements.uuids(_each(ids, counts)),
        "numbers": statements.int4s([n for count in counts for n in range(1, count + 1)]),
        "accounts": statements.uuids(accounts),
        "amounts": statements.int8s(amounts),
        "currencies": statements.texts(currencies),
        "versions": statements.int8s(versions),
        "after": statements.int8s(after),
        "posting_effective": statements.instants(_each(effective, counts)),
        "posting_recorded": statements.instants(_each(recorded, counts)),
    }


def metadata_of(command: Transfer | PostEntry | CaptureHold) -> str:
    """Return an entry's metadata as JSON."""
    return json.dumps(dict(command.metadata)) if command.metadata else "{}"


def _each[T](values: Sequence[T], counts: Sequence[int]) -> list[T]:
    """Return each value as often as its entry has postings."""
    return list(chain.from_iterable(map(repeat, values, counts)))


def _posting_command(outcome: Outcome) -> Transfer | PostEntry | CaptureHold:
    command = outcome.command
    assert isinstance(command, _POSTING)  # noqa: S101  (what posts)
    return command


def _balance_columns(changed: Sequence[BalanceState]) -> dict[str, object]:
    return {
        "balance_ids": statements.uuids([balance.id for balance in changed]),
        "pd": statements.int8s([balance.posted_debits for balance in changed]),
        "pc": statements.int8s([balance.posted_credits for balance in changed]),
        "nd": statements.int8s([balance.pending_debits for balance in changed]),
        "nc": statements.int8s([balance.pending_credits for balance in changed]),
        "bv": statements.int8s([balance.version for balance in changed]),
        "latest": statements.instants([balance.latest_effective_at for balance in changed]),
    }


# --- Events -------------------------------------------------------------------------------------


def _entry_events(
    organization_id: UUID, posted: Sequence[tuple[Outcome, Origin]], now: datetime
) -> list[Published]:
    """Return the event of each entry, its data written as `JournalEntryPosted.data` would."""
    # What many of them share is written once.
    printed = {at: print_instant(at) for at in {o.effective_at or now for o, _ in posted}}
    kinds: dict[str, str] = {}
    entry_ids = encode_ids("je", [cast("UUID", outcome.entry_id) for outcome, _ in posted])
    taken = []
    for (outcome, origin), entry_id in zip(posted, entry_ids, strict=True):
        command = _posting_command(outcome)
        kind = kinds.get(command.kind)
        if kind is None:
            kind = kinds[command.kind] = _quoted(command.kind)
        reference = _quoted(command.reference) if command.reference else "null"
        data = _data(kind, reference, printed[outcome.effective_at or now], outcome.lines)
        # By name it takes twice as long, for each of thousands.
        taken.append(
            Published._make(
                (JournalEntryPosted, organization_id, entry_id, 1, now, *origin, data, None)
            )
        )
    return taken


def events_of_transfers(
    organization_id: UUID, asked: Sequence[tuple[Transfer, Origin]], at: datetime, *, now: datetime
) -> list[Published]:
    """
    Return the events of transfers that are posted as they were asked for.

    They are asked for `now`, and happen at `at`.
    """
    entry_ids = encode_ids("je", [command.id for command, _ in asked])
    printed = print_instant(at)
    events = []
    for (command, origin), entry_id in zip(asked, entry_ids, strict=True):
        currency, amount = command.currency, command.amount_minor
        lines = (
            (command.debit_account_id, amount, currency),
            (command.credit_account_id, -amount, currency),
        )
        reference = _quoted(command.reference) if command.reference else "null"
        data = _data(_quoted(command.kind), reference, printed, lines)
        # By name it takes twice as long.
        events.append(
            Published._make(
                (JournalEntryPosted, organization_id, entry_id, 1, now, *origin, data, None)
            )
        )
    return events


def _data(kind: str, reference: str, at: str, lines: Iterable[Sequence[Any]]) -> str:
    """Return an entry's data; of each line account, amount and currency come first."""
    postings = ",".join([f"{_begun(line[0].int, line[2])}{line[1]}}}" for line in lines])
    return (
        f'{{"kind":{kind},"reference":{reference},"effective_at":"{at}","postings":[{postings}]}}'
    )


# By the integer in an id, whose hash is not computed in Python.
@lru_cache(maxsize=16_384)
def _begun(account: int, currency: str) -> str:
    """Return an account's part of a posting, which is the same in all of its postings."""
    printed = encode_often("la", account)
    return f'{{"ledger_account":"{printed}","currency":"{currency}","amount":'


_quoted: Final = json.JSONEncoder(ensure_ascii=False).encode
