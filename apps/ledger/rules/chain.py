"""
The audit chain: what of an entry is sealed, and how one hash follows from the one before.

A link's hash is SHA-256 over the hash of the link before (32 bytes; none before the first) and the
entry's content. The content is one JSON array, UTF-8, without spaces, keys of objects sorted by
code point and nothing escaped that JSON lets stand, which Python writes by `json.dumps(content,
sort_keys=True, separators=(",", ":"), ensure_ascii=False)`:

    ["kassa.chain.1", position, kind, reference or null, description,
     effective_at, recorded_at, actor, metadata, reverses or null,
     [[account code, account type, amount, currency, account version, balance after], ...]]

`position` counts 1, 2, 3 ... per organisation. Instants are whole microseconds since 1970 in UTC,
amounts are minor units (debit > 0), `metadata` is what the entry was posted with, `reverses` is the
position of the reversed entry, and postings stand in the order of their number. Neither the ids nor
the organisation are part of it, so a journal that is posted again into an empty organisation has
the same chain (ADR 0075).
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

VERSION: Final = "kassa.chain.1"
# What stands in front of the first entry.
GENESIS: Final = b""

_NO_METADATA: Final = msgspec.Raw(b"{}")
_encode: Final = msgspec.json.Encoder().encode


class SealedPosting(NamedTuple):
    """A posting as it is sealed; its place among those of its entry is its number."""

    code: str
    type: str
    amount_minor: int
    currency: str
    account_version: int
    balance_after_minor: int


class EntryContent(NamedTuple):
    """What of a journal entry is sealed; instants are microseconds since 1970 in UTC."""

    kind: str
    reference: str | None
    description: str
    effective_us: int
    recorded_us: int
    actor: str
    metadata: Mapping[str, object]
    reverses: int | None
    postings: tuple[SealedPosting, ...]


def encode(position: int, content: EntryContent) -> bytes:
    """Return the canonical text of an entry at its place in the chain."""
    *first, metadata, reverses, postings = content
    raw = msgspec.Raw(_canonical(metadata)) if metadata else _NO_METADATA
    return _encode((VERSION, position, *first, raw, reverses, postings))


def link(previous: bytes, position: int, content: EntryContent) -> bytes:
    """Return the hash of the link at `position`, which follows the one that hashes `previous`."""
    return sha256(previous + encode(position, content)).digest()


def _canonical(metadata: Mapping[str, object]) -> bytes:
    # By the library that everybody has: others write numbers with a fraction in ways of their own.
    return json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
