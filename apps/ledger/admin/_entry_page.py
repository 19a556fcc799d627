"""
A journal entry's own page: what it moved, what undid it or may, who asked for it, what was said.

All that it shows is read by `prepare`, and the names of people once for all: five reads at most,
whatever the entry is.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.core.admin_base import Fact, Table, cells, zone_of
from apps.ledger import operations, queries, registry
from apps.ledger.admin._corrections import debits
from apps.ledger.admin._links import account_link, entry_link, metadata_pairs
from apps.ledger.models import FxTransfer, JournalEntry
from apps.ledger.queries import MetadataVersion, WholeView
from apps.ledger.registry import Corrections
from apps.ledger.rules import rate_text

VERSIONS_SHOWN = 20


# --- What is read -------------------------------------------------------------------------------


def prepare(obj: JournalEntry) -> None:
    """Attach what the page shows, and what the forms of its acts do."""
    is_by_hand = obj.actor.startswith("staff:") and (
        obj.reverses_id is not None or obj.kind == operations.ADJUSTMENT
    )
    whole = queries.view_whole(entry=obj, with_undone=is_by_hand)
    row: Any = obj
    row.whole, row.view = whole, whole.entry
    row.corrections = _corrections(obj, whole, is_by_hand=is_by_hand)
    row.versions = _versions(obj, whole)


def _corrections(obj: JournalEntry, whole: WholeView, *, is_by_hand: bool) -> Corrections:
    undone_id = None
    if whole.undone_exchange is not None:
        # Of an exchange people named one entry, and the other was undone with it.
        undone_id = _other_side(whole.undone_exchange, obj.reverses_id)
    return registry.find_corrections(
        organization_id=obj.organization_id,
        entry_ids=whole.entry_ids,
        posted_id=obj.id if is_by_hand else None,
        undone_id=undone_id,
    )


def _versions(obj: JournalEntry, whole: WholeView) -> list[MetadataVersion]:
    """Return what was said of it, newest first, and one more than is shown."""
    if whole.entry.annotations:
        return queries.metadata_versions(obj, limit=VERSIONS_SHOWN + 1)
    return [MetadataVersion(0, obj.metadata, obj.actor, obj.recorded_at)]


def actors_of(obj: JournalEntry) -> list[str]:
    """Return whom the page names."""
    by_hand = _found(obj).by_hand
    asked = [by_hand.requested_by, by_hand.approved_by] if by_hand else []
    return [obj.actor, *asked, *(one.actor for one in _given(obj))]


def who(obj: JournalEntry, actor: str) -> str:
    """Return an actor in words: a person by name, of all others what they are."""
    # What a job is called stands in the entry's kind; which key it was, on no list.
    kind = actor.split(":", maxsplit=1)[0]
    return _names(obj).get(actor) or {"api_key": "API key"}.get(kind, kind.replace("_", " "))


def _names(obj: JournalEntry) -> Mapping[str, str]:
    names: Mapping[str, str] = getattr(obj, "names", {})
    return names


def _whole(obj: JournalEntry) -> WholeView:
    whole: WholeView = obj.whole  # type: ignore[attr-defined]  # attached by prepare
    return whole


def _found(obj: JournalEntry) -> Corrections:
    found: Corrections = obj.corrections  # type: ignore[attr-defined]  # attached by prepare
    return found


def _versions_of(obj: JournalEntry) -> Sequence[MetadataVersion]:
    found: Sequence[MetadataVersion] = obj.versions  # type: ignore[attr-defined]  # by prepare
    return found


def _given(obj: JournalEntry) -> list[MetadataVersion]:
    shown = _versions_of(obj)[:VERSIONS_SHOWN]
    return [one for one in shown if one.number or one.metadata]


# --- What is shown ------------------------------------------------------------------------------


def facts(obj: JournalEntry) -> list[Fact]:
    """Return what stands beside the columns of the list."""
    return [
        _reversal(obj),
        *_by_hand(obj),
        *_captured(obj),
        *_exchange(obj),
        *_waiting(obj),
        Fact("Seal", _seal(obj), wide=True),
        Fact("Description", cells.free_text(obj.description or ""), wide=True),
    ]


def tables(obj: JournalEntry) -> list[Table]:
    """Return its postings, and what was said of it."""
    postings = _whole(obj).entry.postings
    moved = cells.amounts(debits(postings))
    return [
        Table(
            "Postings",
            ("Account", ">Debit", ">Credit", ">Balance after"),
            [
                [
                    account_link(posting.account_id, posting.code),
                    _side(posting.amount_minor, posting.currency),
                    _side(-posting.amount_minor, posting.currency),
                    cells.amount(posting.balance_after_minor, posting.currency),
                ]
                for posting in postings
            ],
            totals=["Sum", moved, moved, ""],
            note="Debits equal credits; Postgres refuses anything else.",
        ),
        _metadata(obj),
    ]


def _metadata(obj: JournalEntry) -> Table:
    """Return what was said of an entry, and by whom: the newest counts, the first is its own."""
    zone = zone_of(obj)
    is_cut = len(_versions_of(obj)) > VERSIONS_SHOWN
    return Table(
        "Metadata",
        (">Version", "Given", "By", "Keys and values"),
        [
            [
                cells.number(one.number),
                cells.instant(one.recorded_at, zone=zone),
                cells.text(who(obj, one.actor)),
                metadata_pairs(one.metadata) if one.metadata else cells.text("taken away"),
            ]
            for one in _given(obj)
        ],
        empty="Nothing was said of it.",
        note="The highest version counts; 0 is what the entry was posted with, and stays."
        + (" Older ones are not shown." if is_cut else ""),
    )


def _reversal(obj: JournalEntry) -> Fact:
    """Return which entry this one took back, or which one took it back: never both."""
    if obj.reverses_id is not None:
        return Fact("Reverses", entry_link(obj.reverses_id))
    undone_by = _whole(obj).entry.reversed_by
    return Fact("Reversed by", entry_link(undone_by) if undone_by is not None else cells.NONE)


def _by_hand(obj: JournalEntry) -> list[Fact]:
    """Return who asked for an entry posted by hand, and who agreed to it."""
    found = _found(obj).by_hand
    if found is None:
        return []
    names = _names(obj)
    zone = zone_of(obj)
    return [
        Fact("Correction", cells.row_link("backoffice_correction", "cor", found.correction_id)),
        Fact("Asked by", cells.done_by(found.requested_by, names, found.requested_at, zone=zone)),
        Fact("Agreed by", cells.done_by(found.approved_by, names, found.approved_at, zone=zone)),
    ]


def _captured(obj: JournalEntry) -> list[Fact]:
    """Return the hold that it captured, or part of, if it did."""
    hold = _whole(obj).entry.hold
    return [] if hold is None else [Fact("Captured of", cells.row_link("ledger_hold", "ho", hold))]


def _exchange(obj: JournalEntry) -> list[Fact]:
    """Return what was changed into what, by whose quote, and the entry of the other side."""
    fx = _whole(obj).exchange
    if fx is None:
        return []
    sold = cells.amount(fx.sold_minor, fx.sold_currency)
    bought = cells.amount(fx.bought_minor, fx.bought_currency)
    rate = rate_text(fx.rate)
    quoted_at = cells.instant(fx.quoted_at, zone=zone_of(obj))
    left = (
        f"{fx.remainder_minor.normalize():f} of a minor unit" if fx.remainder_minor else "nothing"
    )
    return [
        Fact("Exchange", format_html("{} for {} at {}", sold, bought, rate), wide=True),
        Fact("Quoted", format_html("{} by {}", quoted_at, cells.free_text(fx.source)), wide=True),
        Fact("Left by rounding", cells.text(left)),
        Fact("Its other side", entry_link(_other_side(fx, obj.id))),
    ]


def _other_side(fx: FxTransfer, entry_id: UUID | None) -> UUID:
    return fx.bought_entry_id if entry_id == fx.sold_entry_id else fx.sold_entry_id


def _waiting(obj: JournalEntry) -> list[Fact]:
    """Return the approval that waits for it, or for its exchange, to be undone, if one does."""
    request_id = _found(obj).waiting_approval_id
    if request_id is None:
        return []
    link = cells.row_link("approvals_approvalrequest", "apr", request_id)
    return [Fact("Its reversal waits", link)]


def _seal(obj: JournalEntry) -> SafeString:
    """Show an entry's place in the audit chain and the hash there, or that it has none yet."""
    position, hash_ = _whole(obj).position, _whole(obj).hash
    if position is None or hash_ is None:
        return cells.state("not_sealed", label="not yet sealed", tone="busy")
    return format_html("No. {} {}", cells.number(position), cells.code(bytes(hash_).hex()))


def _side(amount_minor: int, currency: str) -> SafeString | str:
    return cells.amount(amount_minor, currency) if amount_minor > 0 else ""
