"""
Finding entries and postings among many millions, newest first, a page at a time.

Each search follows one index, the narrowest that it names: the reference's, an account's versions,
metadata, a window of time, a kind, or the entries' own order. What else is asked for is checked row
by row, over a bounded number of rows: a search for what is rare answers a short page with the
place where it stopped, and the next page goes on from there. See ADR 0080.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

from django.db.models import Q

from apps.core.windows import Window

type Order = Literal["account_version", "effective_at", "recorded_at", "id"]

_NIL: Final = UUID(int=0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def with_metadata(wanted: Mapping[str, str]) -> Q:
    """Return the condition of rows whose metadata contains this; of all where nothing is asked."""
    # The index is of those that have some: a row without is not to be found by it.
    return Q(metadata__contains=dict(wanted)) & ~Q(metadata={}) if wanted else Q()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """
    What is looked for; everything named has to match.

    Amounts are minor units and compared with a posting's amount without its sign, in `currency` if
    one is named. Metadata is what an entry has now. An entry has an amount if one of the postings
    meant has it. An `actor` that ends with a colon is everybody of that kind: `staff:`.
    """

    organization_id: UUID
    now: datetime
    account_id: UUID | None = None
    reference: str | None = None
    kind: str | None = None
    actor: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    effective: Window = field(default_factory=Window)
    recorded: Window = field(default_factory=Window)
    amount_min: int | None = None
    amount_max: int | None = None
    currency: str | None = None

    @property
    def order(self) -> Order:
        """What a page is sorted by, newest first; a cursor is good for one order only."""
        if self.account_id is not None:
            return "account_version"
        if not self.effective.is_open:
            return "effective_at"
        return "id" if self.recorded.is_open else "recorded_at"

    @property
    def has_amount(self) -> bool:
        return not (self.amount_min is None and self.amount_max is None and self.currency is None)

    @property
    def asks_of_entries(self) -> bool:
        """Say whether something is asked that stands on an entry alone, not on its postings."""
        return bool(self.metadata) or self.kind is not None or self.actor is not None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: behind or before a row, or where a search stopped between two rows."""

    order: Order
    version: int = 0
    instant: datetime = _EPOCH
    entry_id: UUID = _NIL
    number: int = 0

    def to_bytes(self) -> bytes:
        """Return the place as a cursor carries it."""
        text = "|".join(
            (
                self.order,
                str(self.version),
                self.instant.astimezone(UTC).isoformat(),
                self.entry_id.hex,
                str(self.number),
            )
        )
        return text.encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Place":
        """
        Return the place that a cursor carries.

        :raises ValueError: if it carries none
        """
        order, version, instant, entry_id, number = raw.decode().split("|")
        return cls(
            order,  # type: ignore[arg-type]  # what is compared with a search's own
            int(version),
            datetime.fromisoformat(instant),
            UUID(entry_id),
            int(number),
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """A page: at most `limit` rows older than a place, or `newer` than it; or the first ones."""

    limit: int
    place: Place | None = None
    newer: bool = False


@dataclass(frozen=True, slots=True)
class Found[T]:
    """A page, newest first, and the places that an older and a newer page begin at, if any."""

    rows: Sequence[T]
    older: Place | None
    newer: Place | None


@dataclass(frozen=True, slots=True)
class Scanned:
    """Rows' places in the direction of a scan, and where it stopped short of the end, if it did."""

    places: Sequence[Place]
    stopped: Place | None = None


def cut(scanned: Scanned, ask: Ask) -> Found[Place]:
    """Return the page that a scan came to; it looked for one row more than is asked for."""
    kept = list(scanned.places[: ask.limit])
    beyond = kept[-1] if len(scanned.places) > ask.limit else scanned.stopped
    # Whoever came by a cursor can go back from the first row.
    behind = kept[0] if kept and ask.place is not None else None
    if ask.newer:
        return Found(kept[::-1], older=behind, newer=beyond)
    return Found(kept, older=beyond, newer=behind)
