"""
The plain transfer: one of which nothing has to be decided, posted by one statement.

Where many organizations ask for little each, a transfer is alone in its transaction, and what the
engine costs is paid by it alone. `sql/post_transfer.sql` posts it in the same order, under the same
locks, with the same rows, if nothing speaks against it; and of many organizations one after the
other in one trip, a transaction each. Everything else is the engine's: what has a reference or a
business time, what is refused, replayed or monitored, and all reasons (ADR 0178).
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError

from apps.core import outbox, statements, transactions
from apps.ledger.operations import _writing
from apps.ledger.operations._tickets import Answer, Ticket
from apps.ledger.rules import Outcome, PostedLine, Transfer

log = structlog.get_logger(__name__)

_POST: Final = """
    SELECT recorded, debited_version, debited_posted, debited_available,
           credited_version, credited_posted, credited_available
      FROM kassa_post_transfer(
           org => %(org)s, key => %(key)s, operation => %(operation)s,
           fingerprint => %(fingerprint)s, prefix => %(prefix)s, entry => %(entry)s,
           kind => %(kind)s, description => %(description)s, metadata => %(metadata)s, at => %(at)s,
           actor => %(actor)s, debited => %(debited)s, credited => %(credited)s,
           amount => %(amount)s, of_currency => %(currency)s, batch => %(batch)s,
           event => %(event)s, event_name => %(event_name)s, event_type => %(event_type)s,
           event_version => %(event_version)s, aggregate_type => %(aggregate_type)s,
           aggregate => %(aggregate)s, request => %(request)s, trace => %(trace)s,
           cause => %(cause)s, data => %(data)s)
"""
# Somebody holds the key or an account for longer than is waited for here; or an account changed
# after it was looked at. Nothing is written.
_LEFT: Final = frozenset({"55P03", "KA001"})


def post(asked: Sequence[tuple[UUID, Ticket]]) -> None:
    """
    Post what is plain of what requests ask for, each with whose it is, in one trip to Postgres.

    Each is a transaction of its own, of one organization, durable when its ticket has its answer.
    Of the others nothing is written, and their tickets say that they are the engine's. So do those
    of which it is not known, as the connection was lost: by its key the engine finds out what
    became of each (rule 5 of the map).

    :raises OperationalError: if there is no connection; then nothing was sent
    """
    plain = [one for one in asked if _may_be_plain(one[1].command)]
    for _, ticket in asked:
        # Until its answer is here.
        ticket.is_engines = True
    if not plain:
        return
    answers = statements.each(_POST, [_values(*one) for one in plain])
    has_posted = [_take(ticket, answer) for (_, ticket), answer in zip(plain, answers, strict=True)]
    if any(has_posted):
        outbox.nudge()


def _may_be_plain(command: Transfer) -> bool:
    return not (
        command.reference
        or command.effective_at
        or command.up_to
        or command.force
        or command.linked
    )


def _take(ticket: Ticket, answer: statements.Answer) -> bool:
    """Give a ticket its answer, if it was posted."""
    try:
        rows = answer.rows()
    # A fault is of this one alone. The engine, which has it now, meets it again, or finds by its
    # key what became of it.
    except (DatabaseError, InterfaceError) as fault:
        state = transactions.sqlstate(fault)
        if state in transactions.RETRIED:
            ticket.met = fault
        elif state not in _LEFT:
            log.warning("plain_transfer_failed", fault=state or type(fault).__name__, exc_info=True)
        return False
    if not rows:
        return False
    command = ticket.command
    [(recorded_at, *after)] = rows
    lines = (
        PostedLine(command.debit_account_id, command.amount_minor, command.currency, *after[:3]),
        PostedLine(command.credit_account_id, -command.amount_minor, command.currency, *after[3:]),
    )
    outcome = Outcome(command, "posted", command.id, lines, None, ticket.now)
    ticket.answer, ticket.recorded_at = Answer(command.id, outcome), recorded_at
    ticket.is_engines, ticket.fault = False, None
    return True


def _values(organization_id: UUID, ticket: Ticket) -> dict[str, object]:
    asked, command = ticket.asked, ticket.command
    event = _writing.event_of_transfer(organization_id, command, ticket.origin, ticket.now)
    return {
        "org": organization_id,
        "key": asked.key,
        "operation": asked.operation,
        "fingerprint": asked.fingerprint,
        "prefix": asked.prefix,
        "entry": command.id,
        "kind": command.kind,
        "description": command.description,
        "metadata": _writing.metadata_of(command),
        "at": ticket.now,
        "actor": ticket.origin.actor,
        "debited": command.debit_account_id,
        "credited": command.credit_account_id,
        "amount": command.amount_minor,
        "currency": command.currency,
        **outbox.alone(event),
    }
