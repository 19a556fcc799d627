"""
The plain transfer: one of which nothing has to be decided, posted by one statement.

Where many organizations ask for little each, a transfer is alone in its transaction, and what the
engine costs is paid by it alone. `sql/post_transfer.sql` posts it in the same order, under the same
locks, with the same rows, if nothing speaks against it; and those of many organizations one after
the other in one statement, a transaction each. `sql/post_transfers.sql` does so with a group of one
organization, whose accounts nobody then has while Python decides. Everything else is the engine's:
what has a reference or a business time, what is refused, replayed or monitored, and all reasons
(ADR 0178, 0180, 0187).
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import batched
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError

from apps.core import outbox, statements, transactions
from apps.ledger.operations import _writing
from apps.ledger.operations._tickets import Answer, Ticket
from apps.ledger.rules import Outcome, PostedLine, Transfer

log = structlog.get_logger(__name__)

_POST_APART: Final = """
    CALL kassa_post_transfers_apart(
         orgs => %(orgs)s, keys => %(keys)s, operations => %(operations)s,
         fingerprints => %(fingerprints)s, prefixes => %(prefixes)s, entries => %(entries)s,
         kinds => %(kinds)s, descriptions => %(descriptions)s, metadata => %(metadata)s,
         ats => %(ats)s, actors => %(actors)s, debited => %(debited)s, credited => %(credited)s,
         amounts => %(amounts)s, currencies => %(currencies)s, batches => %(batches)s,
         events => %(events)s, event_name => %(event_name)s, event_type => %(event_type)s,
         event_version => %(event_version)s, aggregate_type => %(aggregate_type)s,
         aggregates => %(aggregates)s, requests => %(requests)s, traces => %(traces)s,
         causes => %(causes)s, data => %(data)s, recorded => NULL, debited_versions => NULL,
         debited_posted => NULL, debited_available => NULL, credited_versions => NULL,
         credited_posted => NULL, credited_available => NULL)
"""
_POST_TOGETHER: Final = """
    SELECT happened, recorded, debited_version, debited_posted, debited_available,
           credited_version, credited_posted, credited_available
      FROM kassa_post_transfers(
           org => %(org)s, at => %(at)s,
           keys => %(keys)s, operations => %(operations)s, fingerprints => %(fingerprints)s,
           prefixes => %(prefixes)s, entries => %(entries)s, kinds => %(kinds)s,
           descriptions => %(descriptions)s, metadata => %(metadata)s, actors => %(actors)s,
           debited => %(debited)s, credited => %(credited)s, amounts => %(amounts)s,
           currencies => %(currencies)s, batch => %(batch)s, batch_trace => %(batch_trace)s,
           event_name => %(event_name)s, event_type => %(event_type)s,
           event_version => %(event_version)s, aggregate_type => %(aggregate_type)s,
           events => %(events)s, aggregates => %(aggregates)s, requests => %(requests)s,
           traces => %(traces)s, causes => %(causes)s, data => %(data)s)
"""
# Somebody holds the key or an account for longer than is waited for here; or an account of a group
# changed after it was looked at. Nothing is written of what met it.
_LEFT: Final = frozenset({"55P03", "KA001"})


def post(asked: Sequence[tuple[UUID, Ticket]]) -> None:
    """
    Post what is plain of what requests ask for, each with whose it is, in one trip to Postgres.

    Each is a transaction of its own, of one organization, durable when its ticket has its answer.
    Of the others nothing is written, and their tickets say that they are the engine's. So do all of
    them where it is not known, as one met a fault or the connection was lost: by its key the engine
    finds out what became of each (rule 5 of the map).

    :raises OperationalError: if there is no connection; then nothing was sent
    """
    plain = [one for one in asked if _may_be_plain(one[1].command)]
    for _, ticket in asked:
        # Until its answer is here.
        ticket.is_engines = True
    # Behind a pooler what is set for one statement would be another client's: a trip each.
    for part in batched(plain, max(1, len(plain)) if statements.keeps_session() else 1):
        # What one meets ends the rest, in a trip and between them.
        if not _call(part):
            return


def _call(plain: Sequence[tuple[UUID, Ticket]]) -> bool:
    """Give those that are posted their answers; say whether it is known which are."""
    answer = statements.alone(_POST_APART, _values(plain), commits=len(plain) > 1)
    tickets = [ticket for _, ticket in plain]
    columns = _rows(answer, tickets)
    for ticket, row in zip(tickets, zip(*columns[0], strict=True), strict=True) if columns else ():
        # Recorded.
        if row[0] is not None:
            _give(ticket, row, ticket.now)
    # Of what met a fault some may be posted.
    if not columns or any(ticket.answer for ticket in tickets):
        outbox.nudge()
    return bool(columns)


def post_together(organization_id: UUID, group: Sequence[Ticket]) -> None:
    """
    Post requests of one organization as one transaction, if all of them are plain.

    It is durable when its tickets have their answers. Otherwise they say that they are the
    engine's, as `post` has it, and nothing of any of them is written.

    :raises OperationalError: if there is no connection; then nothing was sent
    """
    for ticket in group:
        # Until their answers are here.
        ticket.is_engines = True
    are_plain = all(_may_be_plain(ticket.command) for ticket in group)
    # Who asks twice under one key is told what that stands for.
    if not are_plain or len({ticket.asked.key for ticket in group}) < len(group):
        return
    # One business time for all of them, or a later one that their accounts have seen.
    now = max(ticket.now for ticket in group)
    answer = statements.alone(_POST_TOGETHER, _columns(organization_id, group, now))
    rows = _rows(answer, group)
    for ticket, (happened, *row) in zip(group, rows, strict=bool(rows)):
        _give(ticket, row, happened)
    if rows:
        outbox.nudge()


def _may_be_plain(command: Transfer) -> bool:
    return not (
        command.reference
        or command.effective_at
        or command.up_to
        or command.force
        or command.linked
    )


def _rows(answer: statements.Answer, asked: Sequence[Ticket]) -> list[tuple[Any, ...]]:
    """Return what was answered, or nothing if they are the engine's."""
    try:
        return answer.rows()
    # The engine, which has them now, meets it again, or finds by their keys what became of them.
    except (DatabaseError, InterfaceError) as fault:
        state = transactions.sqlstate(fault)
        if state in transactions.RETRIED:
            for ticket in asked:
                ticket.met = fault
        elif state not in _LEFT:
            log.warning("plain_transfer_failed", fault=state or type(fault).__name__, exc_info=True)
        return []


def _give(ticket: Ticket, row: Sequence[Any], happened: datetime) -> None:
    """Give a ticket its answer: when it was recorded, and each account after it."""
    command = ticket.command
    recorded_at, *after = row
    lines = (
        PostedLine(command.debit_account_id, command.amount_minor, command.currency, *after[:3]),
        PostedLine(command.credit_account_id, -command.amount_minor, command.currency, *after[3:]),
    )
    outcome = Outcome(command, "posted", command.id, lines, None, happened)
    ticket.answer, ticket.recorded_at = Answer(command.id, outcome), recorded_at
    ticket.is_engines, ticket.fault = False, None


def _values(plain: Sequence[tuple[UUID, Ticket]]) -> dict[str, object]:
    tickets = [ticket for _, ticket in plain]
    events = [
        event
        for organization_id, one in plain
        for event in _writing.events_of_transfers(
            organization_id, [(one.command, one.origin)], one.now, now=one.now
        )
    ]
    return {
        "orgs": statements.uuids([organization_id for organization_id, _ in plain]),
        "ats": statements.instants([ticket.now for ticket in tickets]),
        **_asked(tickets),
        **outbox.apart(events),
    }


def _columns(organization_id: UUID, group: Sequence[Ticket], now: datetime) -> dict[str, object]:
    events = _writing.events_of_transfers(
        organization_id, [(ticket.command, ticket.origin) for ticket in group], now, now=now
    )
    return {"org": organization_id, "at": now, **_asked(group), **outbox.together(events)}


def _asked(tickets: Sequence[Ticket]) -> dict[str, object]:
    """Return what is asked for, by columns."""
    asked, commands = [ticket.asked for ticket in tickets], [one.command for one in tickets]
    return {
        "keys": statements.texts([one.key for one in asked]),
        "operations": statements.texts([one.operation for one in asked]),
        "fingerprints": statements.byteas([one.fingerprint for one in asked]),
        "prefixes": statements.texts([one.prefix for one in asked]),
        "entries": statements.uuids([command.id for command in commands]),
        "kinds": statements.texts([command.kind for command in commands]),
        "descriptions": statements.texts([command.description for command in commands]),
        "metadata": statements.texts([_writing.metadata_of(command) for command in commands]),
        "actors": statements.texts([ticket.origin.actor for ticket in tickets]),
        "debited": statements.uuids([command.debit_account_id for command in commands]),
        "credited": statements.uuids([command.credit_account_id for command in commands]),
        "amounts": statements.int8s([command.amount_minor for command in commands]),
        "currencies": statements.texts([command.currency for command in commands]),
    }
