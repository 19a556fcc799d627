"""
What somebody sits on: accounts and keys that were waited for in vain, and not long ago.

What names one of them is posted apart from the others, after them, and hardly waits: so an account
that is locked for long, or a key whose first request is stuck, holds up those alone that name it
(operations.md, F14). This is of one process, and a guess: it decides who waits, and how long, never
what is posted.
"""

import threading
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from django.db import InterfaceError, OperationalError

from apps.core import statements, transactions
from apps.ledger import queries

# For so long it is suspected; when half of it is over it is looked at again.
_SECONDS: Final = 4.0
# How long a transaction waits for what somebody holds, as a statement of its own.
WAIT: Final = "SELECT set_config('lock_timeout', %(wait)s, TRUE)"
# Longer than an account that is merely busy is waited for.
_LOOK: Final = "200ms"

# An account's id, or an idempotency key.
type Named = UUID | str

# By organization, each and until when it is suspected: what a stranger names is the stranger's own.
_until: dict[UUID, dict[Named, float]] = {}
_lock: Final = threading.Lock()


def find(organization_id: UUID) -> set[Named]:
    """Return what is suspected now of this organization."""
    # Mostly there is nothing: that is seen without the lock.
    if organization_id not in _until:
        return set()
    with _lock:
        _forget_old()
        return set(_until.get(organization_id, ()))


def note(organization_id: UUID, named: Iterable[Named]) -> None:
    """Suspect these for a while."""
    until = dict.fromkeys(named, time.monotonic() + _SECONDS)
    if until:
        with _lock:
            _forget_old()
            _until.setdefault(organization_id, {}).update(until)


def clear(organization_id: UUID, named: Iterable[Named]) -> None:
    """Suspect these no more: what names them was posted."""
    if organization_id not in _until:
        return
    with _lock:
        for one in named:
            _until.get(organization_id, {}).pop(one, None)


def look(organization_id: UUID, account_ids: Iterable[UUID]) -> set[UUID]:
    """
    Return on which of these accounts somebody sits, and suspect those: one of them was waited for.

    Each is waited for by itself, since a request names a free one too, which may be busy. One that
    was looked at not long ago is what was waited for.
    """
    with _lock:
        fresh = time.monotonic() + _SECONDS / 2
        known = _until.get(organization_id, {})
        locked = {id_ for id_ in account_ids if known.get(id_, 0.0) > fresh}
    if not locked:
        locked = {id_ for id_ in account_ids if not _is_free(organization_id, id_)}
        clear(organization_id, set(account_ids) - locked)
        note(organization_id, locked)
    return locked


def _is_free(organization_id: UUID, account_id: UUID) -> bool:
    try:
        _take(organization_id=organization_id, account_id=account_id)
    except (OperationalError, InterfaceError) as fault:
        # Of any other fault nothing follows.
        return transactions.sqlstate(fault) != "55P03"
    return True


@transactions.outermost
def _take(*, organization_id: UUID, account_id: UUID) -> None:
    statements.send(WAIT, {"wait": _LOOK})
    queries.lock_balances(organization_id=organization_id, account_ids=[account_id])


def _forget_old() -> None:
    """Drop what is over, so that organizations that come no more leave nothing."""
    now = time.monotonic()
    for organization_id, found in list(_until.items()):
        for one in [one for one, until in found.items() if until <= now]:
            del found[one]
        if not found:
            del _until[organization_id]
