"""
Accounts on which somebody seems to sit: a row was waited for in vain, and that is not long ago.

What names one of them is posted apart from the others, and waits for it only briefly: so one
account that is locked for long holds up neither those that do not name it, nor for long those that
do (operations.md, F14). This is of one process, and a guess: it decides who waits, and how long,
never what is posted.
"""

import threading
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

# Whoever sits on a row for so long after it was waited for in vain is found anew.
_SECONDS: Final = 2.0

# By organization, each account and until when it is suspected. Another organization's ids are
# found by nobody else, so a stranger who names them changes nothing for their owner.
_until: dict[UUID, dict[UUID, float]] = {}
_lock: Final = threading.Lock()


def find(organization_id: UUID) -> set[UUID]:
    """Return the accounts of this organization that are suspected now."""
    # Mostly there is none: that is seen without the lock.
    if organization_id not in _until:
        return set()
    with _lock:
        _forget_old()
        return set(_until.get(organization_id, ()))


def note(organization_id: UUID, account_ids: Iterable[UUID]) -> None:
    """Suspect these accounts for a while: what names all of them waited in vain."""
    with _lock:
        _forget_old()
        until = time.monotonic() + _SECONDS
        _until.setdefault(organization_id, {}).update(dict.fromkeys(account_ids, until))


def clear(organization_id: UUID, account_ids: Iterable[UUID]) -> None:
    """Suspect these no more: something was posted to them."""
    if organization_id not in _until:
        return
    with _lock:
        for account_id in account_ids:
            _until.get(organization_id, {}).pop(account_id, None)


def _forget_old() -> None:
    """Drop what is over, so that organizations that come no more leave nothing."""
    now = time.monotonic()
    for organization_id, accounts in list(_until.items()):
        for account_id in [id_ for id_, until in accounts.items() if until <= now]:
            del accounts[account_id]
        if not accounts:
            del _until[organization_id]
