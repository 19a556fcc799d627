"""
The plain transfer: one of which nothing has to be decided, posted by one statement in one trip.

Where many organizations ask for little each, a transfer is alone in its transaction, and what the
engine costs is paid by it alone. `sql/post_transfer.sql` posts it in the same order, under the same
locks, with the same rows, if nothing speaks against it. Everything else is the engine's: what has a
reference or a business time, what is refused, replayed or monitored, and all reasons (ADR 0178).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from django.db import DatabaseError

from apps.core import outbox, statements, transactions
from apps.ledger.operations import _writing
from apps.ledger.operations._tickets import Answer, Ticket
from apps.ledger.rules import Outcome, PostedLine, Transfer

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
# after it was looked at. Nothing is written in either.
_LEFT: Final = frozenset({"55P03", "KA001"})


class Posted(NamedTuple):
    """What a transfer is answered, and when Postgres recorded it."""

    answer: Answer
    recorded_at: datetime


def post(organization_id: UUID, ticket: Ticket) -> Posted | None:
    """
    Post the transfer that a request asks for; None, and nothing is done, if it is not plain.

    An outermost operation. A key that stands for something already is not plain.
    """
    command = ticket.command
    if not _may_be_plain(command):
        return None
    try:
        posted = _post_plainly(
            organization_id=organization_id,
            ticket=ticket,
            entry=_entry_values(command, ticket.now, ticket.origin.actor),
        )
        # They came with COMMIT's answer.
        rows = posted.rows()
    except DatabaseError as fault:
        if transactions.sqlstate(fault) in _LEFT:
            return None
        raise
    if not rows:
        return None
    [(recorded_at, *after)] = rows
    lines = (
        PostedLine(command.debit_account_id, command.amount_minor, command.currency, *after[:3]),
        PostedLine(command.credit_account_id, -command.amount_minor, command.currency, *after[3:]),
    )
    outcome = Outcome(command, "posted", command.id, lines, None, ticket.now)
    return Posted(Answer(command.id, outcome), recorded_at)


def _may_be_plain(command: Transfer) -> bool:
    return not (
        command.reference
        or command.effective_at
        or command.up_to
        or command.force
        or command.linked
    )


@transactions.outermost
def _post_plainly(
    *, organization_id: UUID, ticket: Ticket, entry: Mapping[str, object]
) -> statements.Answer:
    """Have it posted, in the one trip of BEGIN and COMMIT; what is answered is read after that."""
    # If COMMIT's answer is lost, the next run finds the key taken, and the engine what it made.
    transactions.current().resolvable = True
    asked = ticket.asked
    event = _writing.event_of_transfer(organization_id, ticket.command, ticket.origin, ticket.now)
    return statements.send(
        _POST,
        {
            "org": organization_id,
            "key": asked.key,
            "operation": asked.operation,
            "fingerprint": asked.fingerprint,
            "prefix": asked.prefix,
            **entry,
            **outbox.publish_along(event),
        },
    )


def _entry_values(command: Transfer, at: datetime, actor: str) -> dict[str, object]:
    return {
        "entry": command.id,
        "kind": command.kind,
        "description": command.description,
        "metadata": _writing.metadata_of(command),
        "at": at,
        "actor": actor,
        "debited": command.debit_account_id,
        "credited": command.credit_account_id,
        "amount": command.amount_minor,
        "currency": command.currency,
    }
