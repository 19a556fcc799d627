"""
The journal as Kassa itself reads it back: JSON lines, complete, in the order of the audit chain.

First a header, then every account, every sealed entry with the hash of its link, and what metadata
became later; then what stands beside the entries: money changed, open holds, active monitors,
months that were closed, and of those that were opened again what was stored. Amounts are minor
units, debit positive; an entry is named by its position in the chain.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw

from apps.ledger.rules.chain import EntryContent, SealedPosting

FORMAT: Final = "kassa.journal.3"
# The one before had no months that were opened again: all it has is read as it was.
FORMATS: Final = frozenset({"kassa.journal.2", FORMAT})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# Postgres' bigint; and text without the one character that Postgres cannot store.
type Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
type Instant = Annotated[datetime, Meta(tz=True)]
type Text500 = Annotated[str, Meta(max_length=500, pattern=r"\A[^\x00]*\Z")]
type Code = Annotated[
    str, Meta(max_length=200, pattern=r"\A[a-z0-9][a-z0-9_]*(:[a-z0-9][a-z0-9_]*)*(:[A-Z]{3})?\Z")
]
type Currency = Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
type Position = Annotated[int, Meta(ge=1, le=2**63 - 1)]
type Amount = Annotated[int, Meta(ge=1, le=2**63 - 1)]
# Far below Postgres' integer: a month that comes with as many is closed again and again yet.
type Closings = Annotated[int, Meta(ge=1, le=1_000_000)]
type Text100 = Annotated[str, Meta(max_length=100, pattern=r"\A[^\x00]*\Z")]
type Reference = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[^\x00]*\Z")]
type Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class _Line(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", kw_only=True, gc=False):
    pass


class HeaderLine(_Line, tag="journal"):
    """
    What the file is: whose, how far its chain goes, and how many lines there are of each kind.

    `hash` is empty without entries.
    """

    format: str
    organization: str
    hash: str
    accounts: int
    entries: int
    metadata: int
    fx_transfers: int
    holds: int
    monitors: int
    periods: int
    period_balances: int = 0


class AccountLine(_Line, tag="account"):
    """An account as it stood at the export; its floor and status hold from the end of it on."""

    code: Code
    account_type: str
    currency: Currency
    min_available: Integer | None
    internal: bool
    status: str
    metadata: Raw


class PostingLine(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """One posting, with the account's version and balance right after it."""

    account: Code
    amount: Integer
    currency: Currency
    version: Position
    balance_after: Integer


class EntryLine(_Line, tag="entry"):
    """One entry at its position of the chain."""

    position: Position
    hash: Hash
    id: str
    kind: Annotated[str, Meta(max_length=40, pattern=r"\A[^\x00]*\Z")]
    reference: Reference | None
    description: Text500
    effective_at: Instant
    recorded_at: Instant
    actor: Text100
    metadata: Raw
    reverses: Position | None
    postings: Annotated[list[PostingLine], Meta(min_length=1)]

    def content(self, types: Mapping[str, str]) -> EntryContent:
        """Return what of it is sealed; `types` are those of the accounts by code."""
        return EntryContent(
            self.kind,
            self.reference,
            self.description,
            (self.effective_at - _EPOCH) // _MICROSECOND,
            (self.recorded_at - _EPOCH) // _MICROSECOND,
            self.actor,
            parse_metadata(self.metadata),
            self.reverses,
            tuple(
                [
                    SealedPosting(
                        p.account, types[p.account], p.amount, p.currency, p.version,
                        p.balance_after,
                    )
                    for p in self.postings
                ]
            ),
        )  # fmt: skip


class MetadataLine(_Line, tag="metadata"):
    """What the metadata of the entry at a position became later, the `number`-th time."""

    position: Position
    number: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    metadata: Raw
    actor: Text100
    recorded_at: Instant


class FxLine(_Line, tag="fx_transfer"):
    """Money changed, by the entries at two positions; what was bought is what the rate says."""

    sold_entry: Position
    bought_entry: Position
    from_account: Code
    to_account: Code
    sold: Amount
    sold_currency: Currency
    bought: Amount
    bought_currency: Currency
    rate: Annotated[str, Meta(pattern=r"\A\d{1,16}(\.\d{1,12})?\Z")]
    source: Text100
    quoted_at: Instant
    reference: Reference | None
    description: Text500
    metadata: Raw
    effective_at: Instant
    created_at: Instant


class HoldLine(_Line, tag="hold"):
    """An open hold, and what it still reserves of the debited account."""

    debit_account: Code
    credit_account: Code
    amount: Amount
    currency: Currency
    reference: Reference | None
    expires_at: Instant | None
    multi_capture: bool
    metadata: Raw


class MonitorLine(_Line, tag="monitor"):
    """An active balance monitor; which side of its threshold the balance is on, it says itself."""

    account: Code
    measure: str
    direction: str
    threshold: Integer
    description: Text500


class PeriodLine(_Line, tag="period"):
    """
    A month that was closed, the `closings`-th time, and by whom.

    While it is closed its trial balance is in the entries. One that is `open` again says by whom
    and why, where that was kept, and what was stored of it are lines of their own.
    """

    month: date
    starts_at: Instant
    ends_at: Instant
    closings: Closings
    requested_by: Text100
    approved_by: Text100
    state: Literal["closed", "open"] = "closed"
    reopening_requested_by: Text100 = ""
    reopening_approved_by: Text100 = ""
    reopening_reason: Text500 = ""


class PeriodBalanceLine(_Line, tag="period_balance"):
    """An account's line of the trial balance that was stored as a month was closed."""

    month: date
    closing: Closings
    account: Code
    opening: Integer
    debits: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    credits: Annotated[int, Meta(ge=0, le=2**63 - 1)]


# In the order in which they stand in a file.
type Line = (
    HeaderLine | AccountLine | EntryLine | MetadataLine
    | FxLine | HoldLine | MonitorLine | PeriodLine | PeriodBalanceLine
)  # fmt: skip
ORDER: Final = (
    HeaderLine, AccountLine, EntryLine, MetadataLine, FxLine, HoldLine, MonitorLine, PeriodLine,
    PeriodBalanceLine,
)  # fmt: skip

_decoder: Final = msgspec.json.Decoder(
    HeaderLine | AccountLine | EntryLine | MetadataLine
    | FxLine | HoldLine | MonitorLine | PeriodLine | PeriodBalanceLine
)  # fmt: skip
_encoder: Final = msgspec.json.Encoder()


def parse_line(text: bytes) -> Line:
    """
    Return what a line says.

    :raises ValueError: if it is none of the lines above; the message says what is wrong with it
    """
    line: Line = _decoder.decode(text)
    metadata = getattr(line, "metadata", None)
    if isinstance(metadata, Raw):
        parse_metadata(metadata)
    return line


def parse_metadata(raw: Raw) -> dict[str, object]:
    """
    Return an object of metadata.

    :raises ValueError: if it is no object, or holds what Postgres' jsonb does not
    """
    if bytes(raw) == b"{}":
        return {}
    value = json.loads(bytes(raw), parse_constant=_refuse_constant)
    if not isinstance(value, dict) or not all(_is_storable(part) for part in _parts(value)):
        msg = "metadata is an object without NUL, half characters and numbers beyond any"
        raise ValueError(msg)
    return value


def _parts(value: object) -> Iterator[object]:
    """Yield every text and number of a value, keys too."""
    if isinstance(value, dict):
        yield from value
        for held in value.values():
            yield from _parts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _parts(held)
    else:
        yield value


def _is_storable(part: object) -> bool:
    """Say whether Postgres has this text or number; JSON can spell 1e999 and half of a pair."""
    if isinstance(part, str):
        return "\0" not in part and not _SURROGATE.search(part)
    return not isinstance(part, float) or math.isfinite(part)


def _refuse_constant(name: str) -> object:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def metadata_raw(metadata: Mapping[str, object]) -> Raw:
    """Return metadata as a line holds it; by the library that reads it back."""
    return Raw(json.dumps(metadata, ensure_ascii=False).encode())


def entry_line(*, position: int, hash_: bytes, id_: str, content: EntryContent) -> EntryLine:
    """Return the line of a sealed entry."""
    return EntryLine(
        position=position,
        hash=hash_.hex(),
        id=id_,
        kind=content.kind,
        reference=content.reference,
        description=content.description,
        effective_at=_EPOCH + timedelta(microseconds=content.effective_us),
        recorded_at=_EPOCH + timedelta(microseconds=content.recorded_us),
        actor=content.actor,
        metadata=metadata_raw(content.metadata),
        reverses=content.reverses,
        postings=[
            PostingLine(
                account=p.code,
                amount=p.amount_minor,
                currency=p.currency,
                version=p.account_version,
                balance_after=p.balance_after_minor,
            )
            for p in content.postings
        ],
    )


def write(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the lines as text, each with its line end."""
    for line in lines:
        yield _encoder.encode(line).decode() + "\n"
