"""The screen of audit chains: how far each has come, what waits, when it was last verified."""

from collections.abc import Sequence
from typing import override

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Fact, RecordAdmin, Table, cells, shown, zone_of
from apps.core.queries import list_feed_positions
from apps.ledger import queries
from apps.ledger.admin._links import entry_link
from apps.ledger.models import ChainHead

_LINKS_SHOWN = 20


@admin.register(ChainHead)
class ChainHeadAdmin(RecordAdmin[ChainHead]):
    """One chain per organisation. Entries join it a minute or two after they are posted."""

    view_capability = "ledger.view_ledger"
    title = "Audit chains"
    intro = (
        "Every journal entry is sealed under a SHA-256 hash over all before it. "
        "manage.py verify_ledger recomputes them."
    )
    empty = "No entry was sealed yet; a job seals them each minute."
    list_display = ("chain", "organization", "position", "behind", "extended_at", "short_hash")
    facts = ("organization", "position", "whole_hash", "extended_at")

    @override
    def headline(self, obj: ChainHead) -> str:
        return f"Audit chain of {obj.organization}"

    @override
    def prepare(self, request: HttpRequest, rows: Sequence[ChainHead]) -> None:
        fed = list_feed_positions()
        for row in rows:
            waiting = fed.get(row.organization_id, 0) - row.feed_position
            row.waiting = waiting  # type: ignore[attr-defined]  # attached for the cells

    def chain(self, obj: ChainHead) -> SafeString:
        return cells.link(self.url_of(obj), cells.text("Chain"))

    @shown("Entries sealed", align="end")
    def position(self, obj: ChainHead) -> SafeString:
        return cells.number(obj.position)

    @shown("Transactions behind", align="end")
    def behind(self, obj: ChainHead) -> SafeString:
        return cells.number(obj.waiting)  # type: ignore[attr-defined]  # attached by prepare

    @shown("Last extended")
    def extended_at(self, obj: ChainHead) -> SafeString:
        return cells.instant(obj.sealed_at, zone=zone_of(obj))

    @shown("Hash")
    def short_hash(self, obj: ChainHead) -> SafeString:
        return cells.cut(bytes(obj.hash).hex(), head=8, tail=8)

    @shown("Hash")
    def whole_hash(self, obj: ChainHead) -> SafeString:
        return cells.code(bytes(obj.hash).hex())

    @override
    def get_facts(self, request: HttpRequest, obj: ChainHead) -> list[Fact]:
        status = queries.chain_status(organization_id=obj.organization_id)
        verified = cells.instant(status.verified_at, zone=zone_of(obj))
        return [
            *super().get_facts(request, obj),
            Fact("Entries waiting", cells.number(status.waiting)),
            Fact("Oldest waits for", cells.age(status.oldest_waiting_at, now=clock.now())),
            Fact("Last verified", verified),
            Fact("Verified up to", cells.number(status.verified_position)),
        ]

    @override
    def get_tables(self, request: HttpRequest, obj: ChainHead) -> list[Table]:
        links = queries.list_links(
            organization_id=obj.organization_id,
            after=max(0, obj.position - _LINKS_SHOWN),
            limit=_LINKS_SHOWN,
        )
        rows = [
            [cells.number(position), entry_link(entry_id), cells.code(hash_.hex())]
            for position, entry_id, hash_ in reversed(links)
        ]
        return [Table("Last links", (">Position", "Entry", "Hash"), rows)]
