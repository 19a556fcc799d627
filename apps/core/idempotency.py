"""
Idempotency keys, written in the transaction of the work they stand for (api.md).

A claim is an operation's first statement. It is new, or it names what an earlier call made, or it
raises the refusal that call met. No bodies are kept: only a fingerprint and the id that was made.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import OperationalError, connection

from apps.core import context, statements, transactions
from apps.core.canonical import canonical_json, quick_digest
from apps.core.errors import NotYet, Refusal, RuleViolation, StateConflict, refusal_classes
from apps.core.ids import encode_id, new_id

LOCK_TIMEOUT: Final = "55P03"
# Rows go in by the order of their keys, so that of two batches with keys in common one waits for
# the other and neither for both.
_INSERT: Final = """
    INSERT INTO core_idempotency_key
        (organization_id, key, operation, fingerprint, prefix, resource_id, refusal_code, refusal,
         created_at)
    SELECT %(org)s, k.key, k.operation, k.fingerprint, k.prefix, k.resource_id,
           k.code, k.refusal::jsonb, clock_timestamp()
      FROM unnest(%(keys)s::text[], %(fingerprints)s::bytea[], %(ids)s::uuid[],
                  /* same */ %(operations)s::text[], %(prefixes)s::text[], %(codes)s::text[],
                  %(refusals)s::text[])
           AS k(key, fingerprint, resource_id, operation, prefix, code, refusal)
     {condition}
     ORDER BY k.key COLLATE "C"
        ON CONFLICT (organization_id, key) DO NOTHING
    RETURNING key
"""
_TAKE: Final = _INSERT.format(condition="")
# Asked once, before the first of them is waited for, and good until the transaction's end.
_TAKE_SHARING: Final = _INSERT.format(
    condition="""WHERE (SELECT set_config('lock_timeout', ceil(extract(
        epoch FROM current_setting('lock_timeout')::interval) * 1000 / %(waits)s)::text, TRUE)
    ) IS NOT NULL"""
)
_SELECT: Final = """
    SELECT key, operation, fingerprint, prefix, resource_id, refusal_code, refusal::text
      FROM core_idempotency_key WHERE organization_id = %(org)s AND key = ANY(%(keys)s)
"""
_REFUSE: Final = """
    UPDATE core_idempotency_key AS taken
       SET refusal_code = r.code, refusal = r.refusal::jsonb
      FROM unnest(%(keys)s::text[], %(codes)s::text[], %(refusals)s::text[])
           AS r(key, code, refusal)
     WHERE taken.organization_id = %(org)s AND taken.key = r.key
"""


# Operation, fingerprint, prefix, what was made; and the code and the rest of a refusal.
type _Stored = Sequence[Any]


class IdempotencyKeyReused(RuleViolation):
    """The key was used for another request; `resource` names what that one made, if anything."""

    code = "idempotency_key_reused"


class RequestInProgress(NotYet):
    """The first request with this key is still running."""

    code = "request_in_progress"


# Not about the act, or not for long: what a later try with the key meets may differ.
_NOT_STORED: Final = (IdempotencyKeyReused, NotYet)


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What a key stands for.

    `resource_id` is a fresh UUIDv7 for what the operation is about to make; in a replay it is the
    id of what the first call made. For an act on what is there already it is the id of that.
    """

    resource_id: UUID
    replayed: bool


class Asked(NamedTuple):
    """A key as a request claims it: `fingerprint` is what makes two requests the same one."""

    key: str
    operation: str
    fingerprint: bytes
    prefix: str
    resource_id: UUID


def asked(
    key: str, operation: str, *parts: object, prefix: str = "", acts_on: UUID | None = None
) -> Asked:
    """Return the claim of this operation and these parts, with a fresh id for what it makes."""
    return Asked(key, operation, quick_digest([operation, *parts]), prefix, acts_on or new_id())


def claim(
    organization_id: UUID,
    key: str,
    operation: str,
    *parts: object,
    prefix: str = "",
    acts_on: UUID | None = None,
) -> Claim:
    """
    Claim the key for this operation and these parts, or find what it already stands for.

    A caller that reuses the key is told what it stands for: what the operation makes under the
    claim's id, or, where it makes nothing of its own, what it `acts_on`. `prefix` is how that one's
    id is printed; without one nothing is named.
    Waits for a running request with the same key as long as `lock_timeout` says.

    :raises IdempotencyKeyReused: if the key stands for another request
    :raises RequestInProgress: if the first request is still running
    :raises Refusal: the stored one, if the first request was refused
    """
    unit = transactions.current()
    # What an earlier run of this operation found says nothing about this one.
    context.current().replayed = False
    row = asked(key, operation, *parts, prefix=prefix, acts_on=acts_on)
    [found] = claim_many(organization_id, [row])
    if isinstance(found, Claim) and not found.replayed:
        unit.on_refusal.append(partial(_store_refusal, organization_id, row))
        return found
    context.current().replayed = not isinstance(found, IdempotencyKeyReused)
    if isinstance(found, Refusal):
        raise found
    return found


def claim_many(organization_id: UUID, rows: Sequence[Asked]) -> list[Claim | Refusal]:
    """
    Claim keys for many requests at once; return in their order what each stands for.

    A refusal is either `IdempotencyKeyReused` or the stored one that a first call met. The keys
    are distinct. Nothing is stored for those refused later in this transaction: see `refuse_many`.

    :raises RequestInProgress: if the first request of one of them is still running
    """
    return Claiming(organization_id, rows).claims()


class Claiming:
    """
    Keys that are being claimed: what is asked meanwhile travels in the same trip, behind.

    With `waits` the transaction waits for each lock that part of its session's `lock_timeout`, for
    one that may wait so often.
    """

    def __init__(
        self, organization_id: UUID, rows: Sequence[Asked], *, waits: int | None = None
    ) -> None:
        transactions.current().resolvable = True
        self._organization_id = organization_id
        self._rows = rows
        self._answer = _ask_take(organization_id, rows, waits=waits)

    def claims(self, *, behind: statements.Answer | None = None) -> list[Claim | Refusal]:
        """
        Return what each key stands for, as `claim_many` does.

        What a statement met that went `behind` the keys is raised before anything more is asked.
        """
        taken = _taken(self._answer)
        if behind is not None:
            behind.require()
        standing = [row.key for row in self._rows if row.key not in taken]
        found: dict[str, _Stored] = {}
        if standing:
            values = {"org": self._organization_id, "keys": statements.texts(standing)}
            found = {key: stored for key, *stored in statements.run(_SELECT, values)}
        return [
            # One that stood and is gone meanwhile is nobody's: better a fault than a claim without
            # a row.
            _replay(found[row.key], row)
            if row.key not in taken
            else Claim(resource_id=row.resource_id, replayed=False)
            for row in self._rows
        ]


def refuse_many(organization_id: UUID, refused: Sequence[tuple[str, Refusal]]) -> None:
    """Keep refusals under keys that this transaction claimed, for those that are to be kept."""
    kept = [(key, refusal) for key, refusal in refused if _is_stored(refusal)]
    if not kept:
        return
    statements.send(
        _REFUSE,
        {
            "org": organization_id,
            "keys": statements.texts([key for key, _ in kept]),
            "codes": statements.texts([refusal.code for _, refusal in kept]),
            "refusals": statements.texts([_stored(refusal) for _, refusal in kept]),
        },
    )


def answer_with(
    organization_id: UUID, key: str, resource_id: UUID, *, prefix: str | None = None
) -> None:
    """
    Let the key stand for what was there already, as the work it was claimed for found out.

    With `prefix` that is something of another kind than the key was claimed for.
    """
    transactions.current()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE core_idempotency_key SET resource_id = %s, prefix = coalesce(%s, prefix)"
            " WHERE organization_id = %s AND key = %s",
            [resource_id, prefix, organization_id, key],
        )


def _ask_take(
    organization_id: UUID,
    rows: Sequence[Asked],
    *,
    code: str | None = None,
    refusal: str | None = None,
    waits: int | None = None,
) -> statements.Answer:
    """Have the rows inserted whose keys nobody has."""
    sharing = {} if waits is None else {"waits": waits}
    return statements.ask(
        _TAKE_SHARING if sharing else _TAKE,
        {
            **sharing,
            "org": organization_id,
            "keys": statements.texts([row.key for row in rows]),
            "operations": statements.texts([row.operation for row in rows]),
            "fingerprints": statements.byteas([row.fingerprint for row in rows]),
            "prefixes": statements.texts([row.prefix for row in rows]),
            "ids": statements.uuids([row.resource_id for row in rows]),
            "codes": statements.texts([code] * len(rows)),
            "refusals": statements.texts([refusal] * len(rows)),
        },
    )


def _taken(answer: statements.Answer) -> set[str]:
    """Return the keys that were inserted. Waits for those being worked."""
    try:
        return {key for (key,) in answer.rows()}
    except OperationalError as fault:
        if transactions.sqlstate(fault) == LOCK_TIMEOUT:
            raise RequestInProgress("The first request with this key is running.") from fault
        raise


def _replay(stored: _Stored, row: Asked) -> Claim | Refusal:
    operation, fingerprint, prefix, resource_id, refusal_code, refusal = stored
    if (operation, bytes(fingerprint)) != (row.operation, row.fingerprint):
        # A refused request made nothing, so there is nothing to name.
        made = {} if refusal_code or not prefix else {"resource": encode_id(prefix, resource_id)}
        return IdempotencyKeyReused("This idempotency key was used for another request.", **made)
    if refusal_code is not None:
        return _rebuilt(refusal_code, json.loads(refusal or "{}"))
    return Claim(resource_id=resource_id, replayed=True)


def _rebuilt(code: str, stored: dict[str, object]) -> Refusal:
    details = stored.get("details")
    kind = refusal_classes()[code]
    return kind(str(stored["message"]), **(details if isinstance(details, dict) else {}))


def _is_stored(refusal: Refusal) -> bool:
    return isinstance(refusal, RuleViolation | StateConflict) and not isinstance(
        refusal, _NOT_STORED
    )


def _stored(refusal: Refusal) -> str:
    return canonical_json({"message": refusal.message, "details": refusal.details})


def _store_refusal(organization_id: UUID, row: Asked, refusal: Refusal) -> bool:
    """Keep the refusal under its key; true if another request took the key meanwhile."""
    if not _is_stored(refusal):
        return False
    answer = _ask_take(organization_id, [row], code=refusal.code, refusal=_stored(refusal))
    return not _taken(answer)
