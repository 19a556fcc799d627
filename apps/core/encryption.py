"""
Bank details and secrets at rest: AES-256-GCM under a data key per organisation.

A token is `version | kid | nonce | ciphertext and tag`. The associated data is
`table.column | organisation | row id`, so a ciphertext moved to another row or tenant does not
open. Data keys are wrapped by a key-encryption key of the ring file (operations.md, section 5).
"""

import base64
import hmac
import json
import os
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import connection

from apps.core import transactions
from apps.core.errors import InvariantBroken
from apps.core.models import DataKey

_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_KID_BYTES: Final = 4
_HEADER_BYTES: Final = 1 + _KID_BYTES + _NONCE_BYTES
_CACHE_SECONDS_MAX: Final = 300

_cache: dict[tuple[UUID, int], tuple[float, bytes]] = {}


@lru_cache(maxsize=4)
def _ring(path: str) -> tuple[str, dict[str, bytes]]:
    """Return the id of the current key-encryption key, and all of them."""
    loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    keys = {kid: base64.b64decode(key) for kid, key in loaded["keys"].items()}
    return loaded["current"], keys


@transactions.required
def create_data_key(*, organization_id: UUID) -> None:
    """Give the organisation its first data key; made with the organisation, in its transaction."""
    kek_id, keys = _ring(settings.KASSA_KEY_FILE)
    nonce = os.urandom(_NONCE_BYTES)
    key = AESGCM.generate_key(bit_length=256)
    wrapped = nonce + AESGCM(keys[kek_id]).encrypt(nonce, key, organization_id.bytes)
    row = DataKey(organization_id=organization_id, kid=1, kek_id=kek_id, wrapped=wrapped)
    DataKey.objects.bulk_create([row], ignore_conflicts=True)


def _newest_key(organization_id: UUID) -> tuple[int, bytes]:
    """
    Return the data key that seals, with its kid.

    Always read: a key from memory may have been retired, or rolled back with its organisation, and
    nothing sealed with it would ever open.
    """
    row = DataKey.objects.filter(organization_id=organization_id).order_by("-kid").first()
    if row is None:
        msg = f"Organisation {organization_id} has no data key."
        raise InvariantBroken(msg)
    return row.kid, _unwrap(row)


def _opening_key(organization_id: UUID, kid: int) -> bytes:
    """Return the data key `kid`; kept in memory for at most five minutes."""
    now = time.monotonic()
    cached = _cache.get((organization_id, kid))
    if cached and cached[0] > now:
        return cached[1]
    row = DataKey.objects.filter(organization_id=organization_id, kid=kid).first()
    if row is None:
        msg = f"Organisation {organization_id} has no data key {kid}."
        raise InvariantBroken(msg)
    key = _unwrap(row)
    # A key of this very transaction may yet be rolled back; only committed ones are kept.
    if not connection.in_atomic_block:
        for stale in [name for name, (until, _) in list(_cache.items()) if until <= now]:
            _cache.pop(stale, None)
        _cache[organization_id, kid] = (now + _CACHE_SECONDS_MAX, key)
    return key


def _unwrap(row: DataKey) -> bytes:
    _, keys = _ring(settings.KASSA_KEY_FILE)
    wrapped = bytes(row.wrapped)
    try:
        kek = AESGCM(keys[row.kek_id])
        return kek.decrypt(
            wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], row.organization_id.bytes
        )
    except (KeyError, InvalidTag):
        msg = f"The data key {row.kid} of {row.organization_id} does not open with {row.kek_id!r}."
        raise InvariantBroken(msg) from None


def _associated(column: str, organization_id: UUID, row_id: UUID) -> bytes:
    return f"{column}|{organization_id}|{row_id}".encode()


def seal(organization_id: UUID, column: str, row_id: UUID, plaintext: str) -> bytes:
    """Return the token for `plaintext`, bound to this column (`table.column`) of this row."""
    kid, key = _newest_key(organization_id)
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(
        nonce, plaintext.encode(), _associated(column, organization_id, row_id)
    )
    return bytes([_VERSION]) + kid.to_bytes(_KID_BYTES, "big") + nonce + sealed


def sealer(organization_id: UUID) -> Callable[[str, UUID, str], bytes]:
    """Return `seal(column, row_id, plaintext)` for thousands of rows: the key is read once."""
    kid, key = _newest_key(organization_id)
    cipher = AESGCM(key)
    header = bytes([_VERSION]) + kid.to_bytes(_KID_BYTES, "big")

    def seal_one(column: str, row_id: UUID, plaintext: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        associated = _associated(column, organization_id, row_id)
        return header + nonce + cipher.encrypt(nonce, plaintext.encode(), associated)

    return seal_one


def unseal(organization_id: UUID, column: str, row_id: UUID, token: bytes) -> str:
    """
    Return the clear text of a token.

    :raises InvariantBroken: if it was cut, altered, or belongs to another column, row or tenant
    """
    return unsealer(organization_id)(column, row_id, token)


def unsealer(organization_id: UUID) -> Callable[[str, UUID, bytes], str]:
    """Return `unseal(column, row_id, token)` for thousands of rows: each key is read once."""
    keys: dict[int, bytes] = {}

    def unseal_one(column: str, row_id: UUID, token: bytes) -> str:
        token = bytes(token)
        if len(token) <= _HEADER_BYTES or token[0] != _VERSION:
            msg = f"A token of {column} is cut or of an unknown version."
            raise InvariantBroken(msg)
        kid = int.from_bytes(token[1 : 1 + _KID_BYTES], "big")
        if kid not in keys:
            keys[kid] = _opening_key(organization_id, kid)
        nonce, sealed = token[1 + _KID_BYTES : _HEADER_BYTES], token[_HEADER_BYTES:]
        associated = _associated(column, organization_id, row_id)
        try:
            clear = AESGCM(keys[kid]).decrypt(nonce, sealed, associated)
        except InvalidTag:
            msg = f"A token of {column} does not open for this row."
            raise InvariantBroken(msg) from None
        return clear.decode()

    return unseal_one


def blind_index(organization_id: UUID, purpose: str, value: str) -> bytes:
    """Return 32 bytes that are equal for equal values of one organisation and purpose only."""
    key = hmac.digest(settings.KASSA_PEPPER.encode(), purpose.encode(), sha256)
    return hmac.digest(key, organization_id.bytes + value.encode(), sha256)
