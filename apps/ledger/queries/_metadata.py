"""The history of an entry's metadata: what it was posted with, and what it was given later."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.ledger import errors
from apps.ledger.models import EntryMetadata, JournalEntry


@dataclass(frozen=True, slots=True)
class MetadataVersion:
    """What an entry's metadata was from one moment on; number 0 is what it was posted with."""

    number: int
    metadata: Mapping[str, object]
    actor: str
    recorded_at: datetime


def list_entry_metadata(
    *,
    organization_id: UUID,
    entry_id: UUID,
    limit: int,
    before_number: int | None = None,
    after_number: int | None = None,
) -> list[MetadataVersion]:
    """
    Return up to `limit` versions of an entry's metadata, newest first: the first is what counts.

    With `before_number` those older than it; with `after_number` the ones that came next after it.

    :raises JournalEntryNotFound: if the organisation has no such entry
    """
    entry = JournalEntry.objects.filter(organization_id=organization_id, id=entry_id).first()
    if entry is None:
        raise errors.JournalEntryNotFound("There is no such journal entry.")
    return metadata_versions(
        entry, limit=limit, before_number=before_number, after_number=after_number
    )


def metadata_versions(
    entry: JournalEntry,
    *,
    limit: int,
    before_number: int | None = None,
    after_number: int | None = None,
) -> list[MetadataVersion]:
    """Return what `list_entry_metadata` does, of an entry that was read: one read."""
    rows = EntryMetadata.objects.filter(organization_id=entry.organization_id, entry_id=entry.id)
    if after_number is not None:
        following = rows.filter(number__gt=after_number).order_by("number")[:limit]
        return [_version(row) for row in following][::-1]
    if before_number is not None:
        rows = rows.filter(number__lt=before_number)
    found = [_version(row) for row in rows.order_by("-number")[:limit]]
    if len(found) < limit and before_number != 0:
        found.append(MetadataVersion(0, entry.metadata, entry.actor, entry.recorded_at))
    return found


def _version(row: EntryMetadata) -> MetadataVersion:
    return MetadataVersion(row.number, row.metadata, row.actor, row.recorded_at)
