"""
Idempotency keys, written in the transaction of the work they stand for (api.md).

A claim is an operation's first statement. It is new, or it names what an earlier call made, or it
raises the refusal that call met. No bodies are kept: only a fingerprint and the id that was made.
"""

import json
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from django.db import OperationalError, connection

from apps.core import context, transactions
from apps.core.canonical import canonical_json, digest
from apps.core.errors import Refusal, RuleViolation, StateConflict, refusal_classes
from apps.core.ids import encode_id, new_id

LOCK_TIMEOUT: Final = "55P03"
_INSERT: Final = """
    INSERT INTO core_idempotency_key
        (organization_id, key, operation, fingerprint, prefix, resource_id, refusal_code, refusal,
         created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp())
    ON CONFLICT (organization_id, key) DO NOTHING
    RETURNING resource_id
"""
_SELECT: Final = """
    SELECT operation, fingerprint, prefix, resource_id, refusal_code, refusal
      FROM core_idempotency_key WHERE organization_id = %s AND key = %s
"""


class IdempotencyKeyReused(RuleViolation):
    """The key was used for another request; `resource` names what that one made, if anything."""

    code = "idempotency_key_reused"


class RequestInProgress(StateConflict):
    """The first request with this key is still running."""

    code = "request_in_progress"


# About the key, not about the act: what a later try with the key meets may differ.
_NOT_STORED: Final = (IdempotencyKeyReused, RequestInProgress)


type _Row = tuple[UUID, str, str, bytes, str, UUID]


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What a key stands for.

    `resource_id` is a fresh UUIDv7 for what the operation is about to make; in a replay it is the
    id of what the first call made.
    """

    resource_id: UUID
    replayed: bool


def claim(
    organization_id: UUID, key: str, operation: str, *parts: object, prefix: str = ""
) -> Claim:
    """
    Claim the key for this operation and these parts, or find what it already stands for.

    `prefix` is how ids of what it makes are printed, for a caller that reuses the key.
    Waits for a running request with the same key as long as the session's `lock_timeout`.

    :raises IdempotencyKeyReused: if the key stands for another request
    :raises RequestInProgress: if the first request is still running
    :raises Refusal: the stored one, if the first request was refused
    """
    unit = transactions.current()
    # What an earlier run of this operation found says nothing about this one.
    context.current().replayed = False
    fingerprint = digest([operation, *parts])
    fresh = new_id()
    row: _Row = (organization_id, key, operation, fingerprint, prefix, fresh)
    if _take(row):
        unit.resolvable = True
        unit.on_refusal.append(partial(_store_refusal, row))
        return Claim(resource_id=fresh, replayed=False)
    with connection.cursor() as cursor:
        cursor.execute(_SELECT, [organization_id, key])
        return _replay(cursor.fetchone(), operation, fingerprint)


def answer_with(organization_id: UUID, key: str, resource_id: UUID) -> None:
    """Let the key stand for what was there already, as the work it was claimed for found out."""
    transactions.current()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE core_idempotency_key SET resource_id = %s"
            " WHERE organization_id = %s AND key = %s",
            [resource_id, organization_id, key],
        )


def _take(row: _Row, *, code: str | None = None, refusal: str | None = None) -> bool:
    """Insert the key's row; false if another request has it. Waits for one that is running."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(_INSERT, [*row, code, refusal])
        except OperationalError as fault:
            if transactions.sqlstate(fault) == LOCK_TIMEOUT:
                raise RequestInProgress("The first request with this key is running.") from fault
            raise
        return cursor.fetchone() is not None


def _replay(
    row: tuple[str, bytes, str, UUID, str | None, str | None],
    operation: str,
    fingerprint: bytes,
) -> Claim:
    first_operation, first_fingerprint, prefix, resource_id, refusal_code, refusal = row
    if (first_operation, bytes(first_fingerprint)) != (operation, fingerprint):
        # A refused request made nothing, so there is nothing to name.
        made = {} if refusal_code or not prefix else {"resource": encode_id(prefix, resource_id)}
        raise IdempotencyKeyReused("This idempotency key was used for another request.", **made)
    context.current().replayed = True
    if refusal_code is not None:
        raise _rebuilt(refusal_code, json.loads(refusal or "{}"))
    return Claim(resource_id=resource_id, replayed=True)


def _rebuilt(code: str, stored: dict[str, object]) -> Refusal:
    details = stored.get("details")
    kind = refusal_classes()[code]
    return kind(str(stored["message"]), **(details if isinstance(details, dict) else {}))


def _store_refusal(row: _Row, refusal: Refusal) -> bool:
    """Keep the refusal under its key; true if another request took the key meanwhile."""
    if not isinstance(refusal, RuleViolation | StateConflict) or isinstance(refusal, _NOT_STORED):
        return False
    stored = canonical_json({"message": refusal.message, "details": refusal.details})
    return not _take(row, code=refusal.code, refusal=stored)
