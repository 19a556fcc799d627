"""Saying more of an entry than it said itself: the entry stays, its metadata gets a history."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from apps.core import audit, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.canonical import digest
from apps.core.ids import encode_id
from apps.ledger import events, queries
from apps.ledger.models import EntryMetadata

# Two annotations of one entry at once: the later one runs again and counts on from the first.
transactions.run_again_on_unique("ledger_entry_metadata_pkey")


@transactions.outermost
def annotate_entry(
    *,
    organization_id: UUID,
    entry_id: UUID,
    metadata: Mapping[str, str],
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> UUID:
    """
    Give a journal entry other metadata, in place of all it had, and return the entry's id.

    The entry itself stays as it was posted; this is a further row of its history, also if the
    metadata is the same. Replaying the key adds nothing.

    :raises JournalEntryNotFound: if the organisation has no such entry
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "annotate_entry",
        entry_id,
        dict(metadata),
        prefix="je",
        acts_on=entry_id,
    )
    if claim.replayed:
        return entry_id
    # No lock: a second annotation that takes the same number meets the primary key, and runs again.
    [last] = queries.list_entry_metadata(
        organization_id=organization_id, entry_id=entry_id, limit=1
    )
    number = last.number + 1
    EntryMetadata.objects.create(
        organization_id=organization_id,
        entry_id=entry_id,
        number=number,
        metadata=dict(metadata),
        actor=str(actor),
    )
    audit.record(
        "ledger.annotate_entry",
        ("ledger.journalentry", str(entry_id)),
        organization_id=organization_id,
        actor=actor,
        # What a client writes there is the client's: which keys it changed is enough to find it,
        # and the digest to prove it (`ledger_entry_metadata_is_as_audited`).
        before={"number": last.number, "keys": sorted(last.metadata)},
        after={
            "number": number,
            "keys": sorted(metadata),
            "digest": digest(dict(metadata)).hex(),
        },
    )
    event = events.JournalEntryAnnotated(
        organization_id=organization_id,
        aggregate_id=encode_id("je", entry_id),
        # The entry's first event said that it was posted.
        sequence=1 + number,
        occurred_at=now,
        number=number,
        keys=sorted(metadata),
    )
    outbox.publish(event, actor=actor, now=now)
    return entry_id
