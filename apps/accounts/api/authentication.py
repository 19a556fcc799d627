"""
Who a bearer token is: at most one indexed query, and none while the answer is a few seconds old.

Many tokens at once are one query too (`prepare_tokens`), and so are those in use that would have to
be read soon: where hundreds of keys ask in turn, nearly every turn would read one.

The cache holds what the row says, never that a secret was right: the secret is proved each time.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

import structlog
from django.conf import settings
from django.db import Error, OperationalError, connection
from django.http import HttpRequest

from apps.accounts import operations, queries, rules
from apps.accounts.queries import StoredKey
from apps.core import clock
from apps.core.actors import Actor
from apps.core.api.caller import Caller, client_address
from apps.core.api.problems import ApiProblem

log = structlog.stdlib.get_logger("kassa.accounts")

# A revoked key is refused within five seconds, by every process.
CACHE_SECONDS_MAX: Final = 4.0
# From this age on one request reads it anew while the others go on with it: all at once would empty
# the pool of connections every four seconds.
_RENEW_SECONDS: Final = 3.0
# Whoever reads keys for many takes along so many others in use, from this age on.
_AHEAD_SECONDS: Final = 1.5
_AHEAD_MAX: Final = 128
_CACHE_ENTRIES_MAX: Final = 10_000
# A read that failed after so long, as one that found no connection, would fail so again.
_LONG_SECONDS: Final = 0.5
_REST_SECONDS: Final = 0.5
# So would a note, and it can wait.
_NOTES_REST_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Entry:
    key: StoredKey
    caller: Caller
    read_at: float
    # Whether somebody has asked for it since.
    is_used: bool = False
    # Held for good by the request that reads it anew, and by the one that notes its use.
    renewing: threading.Lock = field(default_factory=threading.Lock)
    noting: threading.Lock = field(default_factory=threading.Lock)


# In the order in which their rows came.
_cache: dict[str, _Entry] = {}
# Keys that were not found when many were asked for, until when none of them is asked for again, and
# the fault that kept them from being read; None if there are no such keys. Of this moment only.
_missed: dict[str, tuple[float, Error | None]] = {}
_cache_lock = threading.Lock()
_notes_rest_until = 0.0


def authenticate_token(text: str, request: HttpRequest) -> Caller:
    """
    Return the caller behind a bearer token.

    :raises ApiProblem: `invalid_api_key` (401) whatever is wrong with the key, so that nobody
        learns which keys exist; `address_not_allowed` (403) for a right key from elsewhere
    """
    token = rules.parse_token(text)
    if token is None:
        raise _invalid()
    entry = _find(token.key_id)
    # The same work whether the key exists or not: an unknown one is compared with nothing.
    stored = entry.key.secret_digest if entry else None
    if not rules.is_secret(token.secret, stored=stored, peppers=settings.KASSA_PEPPERS):
        raise _invalid()
    if entry is None:
        raise _invalid()
    key, now = entry.key, clock.now()
    if not rules.is_live(revoked_at=key.revoked_at, expires_at=key.expires_at, now=now):
        raise _invalid()
    # The mode is part of the checksum, yet the row decides which one this key is of.
    if key.mode != token.mode:
        raise _invalid()
    if not rules.is_address_allowed(client_address(request), networks=key.addresses):
        raise ApiProblem("address_not_allowed", "This API key may not be used from this address.")
    _note_use(entry, now)
    return entry.caller


def prepare_tokens(texts: Sequence[str]) -> None:
    """
    Read in one query what `authenticate_token` will need for these tokens, where it is not known.

    It says nothing of them. What there is not is not read again for each. What cannot be read now
    each will try to read for itself, unless this took long: then it would for each, one after the
    other, and whoever asks soon is told the fault.
    """
    at = time.monotonic()
    wanted = [
        key_id
        for text in texts
        if (key_id := rules.find_key_id(text))
        and _may_be(key_id, text)
        and _known(key_id, at) is None
    ]
    if not wanted:
        return
    others = _take_along(at)
    found: dict[str, _Entry] | None = None
    try:
        found = _read([*wanted, *others], at)
    except Error as fault:
        if time.monotonic() - at >= _LONG_SECONDS:
            _note_missed(wanted, fault)
    else:
        _note_missed([key_id for key_id in wanted if key_id not in found], None)
    finally:
        if found is None:
            # They are as they were, for whoever asks for them in time.
            for other in others.values():
                other.renewing.release()


def _may_be(key_id: str, text: str) -> bool:
    """Say whether there may be a key of this id: one that was mistyped costs no read."""
    return key_id in _cache or rules.parse_token(text) is not None


def _note_missed(key_ids: Sequence[str], fault: Error | None) -> None:
    now = time.monotonic()
    with _cache_lock:
        # Not those of another thread, which goes through what it asked for just now.
        for key_id in [key_id for key_id, (until, _) in _missed.items() if until <= now]:
            del _missed[key_id]
        _missed.update(dict.fromkeys(key_ids, (now + _REST_SECONDS, fault)))


def _invalid() -> ApiProblem:
    return ApiProblem("invalid_api_key", "This API key is not valid.")


def _find(key_id: str) -> _Entry | None:
    at = time.monotonic()
    known = _known(key_id, at)
    if known is not None:
        return known
    rests_until, fault = _missed.get(key_id, (0.0, None))
    if at < rests_until:
        # A key is issued under an id that nobody could ask for before.
        if fault is None:
            return None
        raise OperationalError("The API key could not be read just now.") from fault
    return _read([key_id], at).get(key_id)


def _known(key_id: str, at: float) -> _Entry | None:
    """Return what is known of a key, or None if it is for the caller to read it, maybe anew."""
    entry = _cache.get(key_id)
    if entry is None:
        return None
    entry.is_used = True
    age = at - entry.read_at
    is_stale = age >= _RENEW_SECONDS and entry.renewing.acquire(blocking=False)
    return entry if age < CACHE_SECONDS_MAX and not is_stale else None


def _take_along(at: float) -> dict[str, _Entry]:
    """Return keys in use, the longest known first, that somebody would have to read soon."""
    with _cache_lock:
        oldest = list(islice(_cache.items(), _AHEAD_MAX))
        for key_id, entry in oldest:
            # Whoever asks for it has to read it anyhow.
            if at - entry.read_at >= CACHE_SECONDS_MAX:
                del _cache[key_id]
    return {
        key_id: entry
        for key_id, entry in oldest
        if _AHEAD_SECONDS <= at - entry.read_at < CACHE_SECONDS_MAX
        and entry.is_used
        and entry.renewing.acquire(blocking=False)
    }


def _read(key_ids: Sequence[str], read_at: float) -> dict[str, _Entry]:
    """Return those of these keys that there are, and keep them for a while."""
    try:
        found = queries.find_stored_keys(key_ids=key_ids)
        entries = {
            key_id: _Entry(key=key, caller=_caller(key), read_at=read_at)
            for key_id, key in found.items()
        }
        with _cache_lock:
            if len(_cache) + len(entries) > _CACHE_ENTRIES_MAX:
                _cache.clear()
            for key_id, entry in entries.items():
                _cache.pop(key_id, None)
                _cache[key_id] = entry
        return entries
    finally:
        _let_go_of_connection()


def _caller(key: StoredKey) -> Caller:
    return Caller(
        organization_id=key.organization_id,
        mode=key.mode,
        actor=Actor("api_key", str(key.id), f"staff:{key.issued_by_id}"),
        scopes=key.scopes,
        api_key_id=key.id,
        kassa_version=key.kassa_version,
    )


def _note_use(entry: _Entry, now: datetime) -> None:
    """Note that a key was used: by who has its secret, and may use it."""
    global _notes_rest_until  # noqa: PLW0603  (one instant for all keys of the process)
    used_at, key, at = entry.key.last_used_at, entry.key, time.monotonic()
    if used_at is not None and now - used_at < operations.USE_NOTED_EVERY:
        return
    if at < _notes_rest_until or not entry.noting.acquire(blocking=False):
        return
    try:
        operations.note_key_use(organization_id=key.organization_id, api_key_id=key.id, now=now)
    except Error:
        # A note for people; a database that takes no writes still answers reads.
        log.warning("key_use_not_noted", api_key_id=str(key.id), exc_info=True)
        if time.monotonic() - at >= _LONG_SECONDS:
            _notes_rest_until = time.monotonic() + _NOTES_REST_SECONDS
    finally:
        _let_go_of_connection()


def _let_go_of_connection() -> None:
    # A request may go on to wait for another one's transaction (group commit), and must not hold
    # the connection which that one waits for. A connection outside a pool stays open.
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def forget_cached_keys() -> None:
    """Read every key anew: after a revocation in this process, and between tests."""
    with _cache_lock:
        _cache.clear()


def revoke_leaked(text: str) -> None:
    """Revoke a real key that was sent in a URL: it stands in logs and histories by now."""
    token = rules.parse_token(text)
    found = queries.find_stored_keys(key_ids=[token.key_id]) if token else {}
    key = found.get(token.key_id) if token else None
    stored = key.secret_digest if key else None
    secret = token.secret if token else ""
    if key is None or not rules.is_secret(secret, stored=stored, peppers=settings.KASSA_PEPPERS):
        return
    operations.revoke_api_key(
        organization_id=key.organization_id,
        api_key_id=key.id,
        reason="The key was sent in a URL.",
        actor=Actor.job("leaked_key"),
        now=clock.now(),
    )
    forget_cached_keys()
    log.warning("api_key_leaked", api_key_id=str(key.id))
