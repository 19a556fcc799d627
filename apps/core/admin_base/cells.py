"""
How a value looks on a staff screen: one function per kind, each returning escaped HTML.

Amounts carry their currency and line up by digits; a state is told by a word and a shape, not by
color alone; ids are cut in the middle and copied whole; instants are in a zone, which the page
names once (`zone_note`), and on hover in UTC.
An IBAN stands in none of them, whatever it was given as: a reference, or the key of a customer.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.core.text import mask_account_numbers, mask_ibans

NONE: Final = mark_safe('<span class="k-none">—</span>')

EMPTY: Final = mark_safe("")


# By what a person should feel about it: done well, on its way, needs a look, over and neutral.
_TONES: Final[dict[str, str]] = {
    **dict.fromkeys(
        [
            "settled",
            "reconciled",
            "succeeded",
            "delivered",
            "done",
            "matched",
            "approved",
            "received",
            "posted",
            "imported",
            "enabled",
            "active",
            "booked",
            "sent",
            "confirmed",
            "captured",
            "verified",
            "in_force",
            "assigned",
            "allow",
            "approve",
            "live",
            "pass",
            "paid",
        ],
        "good",
    ),
    **dict.fromkeys(
        [
            "requested",
            "pending",
            "scheduled",
            "leased",
            "batched",
            "submitted",
            "approval_required",
            "pending_approval",
            "acknowledged",
            "released",
            "frozen_batch",
            "cooling",
            "open",
            "proposed",
            "partly_settled",
            "partially_paid",
            "frozen_batch",
            "exported",
            "accepted",
            "collecting",
            "processing",
            "parsed",
            "chained",
            "test",
            "admitted",
        ],
        "busy",
    ),
    **dict.fromkeys(
        [
            "held",
            "unknown",
            "unmatched",
            "suspense",
            "paused",
            "suspended",
            "stale",
            "overpaid",
            "review",
            "unclear",
            "delivery_unknown",
            "gap",
            "ambiguous",
        ],
        "warn",
    ),
    **dict.fromkeys(
        [
            "rejected",
            "returned",
            "declined",
            "denied",
            "failed",
            "quarantined",
            "refused",
            "exhausted",
            "frozen",
            "disabled",
            "recalled",
            "deny",
            "decline",
            "block",
            "block_and_review",
            "revoked",
        ],
        "bad",
    ),
}


def tone_of(state: str) -> str:
    """Return good, busy, warn, bad or flat: how a state is drawn."""
    return _TONES.get(state, "flat")


def state(value: object, *, label: str = "", tone: str = "") -> SafeString:
    """Show a state by its word and its tone's shape."""
    text = str(value)
    if not text:
        return NONE
    return format_html(
        '<span class="k-state k-{}"><i aria-hidden="true"></i>{}</span>',
        tone or tone_of(text),
        label or text.replace("_", " "),
    )


def amount(amount_minor: int | None, currency: str, *, colored: bool = False) -> SafeString:
    """Show minor units as people read them; with `colored`, what goes out looks it."""
    if amount_minor is None:
        return NONE
    digits = format_minor(amount_minor, currency).rsplit(" ", 1)[0].replace("-", "\u2212")
    css = "k-amount"
    if colored:
        css += " k-out" if amount_minor < 0 else " k-in"
    return format_html('<span class="{}">{}&nbsp;<small>{}</small></span>', css, digits, currency)


def amounts(sums: Mapping[str, int]) -> SafeString:
    """Show sums of several currencies, one below the other; nothing is added up across them."""
    shown = [(amount(total, currency),) for currency, total in sorted(sums.items())]
    return format_html_join(mark_safe("<br>"), "{}", shown) if shown else NONE


def short_id(prefix: str, id_: UUID | None, *, url: str = "") -> SafeString:
    """Show an id cut in the middle, with a button that copies the whole."""
    if id_ is None:
        return NONE
    return cut(encode_id(prefix, id_) if prefix else str(id_), url=url)


def row_link(screen: str, prefix: str, id_: UUID | None) -> SafeString:
    """Show the id of a row, linked to its page by the name of its screen: `payouts_payout`."""
    if id_ is None:
        return NONE
    url = reverse(f"admin:{screen}_change", args=[encode_id(prefix, id_)])
    return short_id(prefix, id_, url=url)


def cut(text: str, *, url: str = "", head: int = 6, tail: int = 5) -> SafeString:
    """Show a long technical text cut in the middle and copyable; a short one as it is."""
    if not text:
        return NONE
    text = mask_ibans(text)
    if "_" in text[:6]:
        head += text.index("_") + 1 - 3
    shown = text if len(text) <= head + tail + 1 else f"{text[:head]}…{text[-tail:]}"
    inner = (
        format_html('<a href="{}" title="{}">{}</a>', url, text, shown)
        if url
        else format_html('<span title="{}">{}</span>', text, shown)
    )
    return format_html(
        '<span class="k-id">{}<button type="button" data-copy="{}" title="Copy {}"'
        ' aria-label="Copy {}"></button></span>',
        inner,
        text,
        text,
        text,
    )


def instant(at: datetime | None, *, zone: str = "UTC") -> SafeString:
    """Show an instant in the zone, UTC on hover; where it is in UTC itself, that is said."""
    if at is None:
        return NONE
    utc = at.astimezone(UTC)
    try:
        local = at.astimezone(ZoneInfo(zone))
    except OverflowError:
        # A client's "never" may be the last second there is, and clocks east of UTC have none so
        # late: one such row must not keep the others from being shown.
        local, zone = utc, "UTC"
    return format_html(
        '<time class="k-time" datetime="{}" title="{} UTC">{} <small>{}</small></time>',
        utc.isoformat(),
        f"{utc:%Y-%m-%d %H:%M:%S}",
        f"{local:%d %b %Y}",
        f"{local:%H:%M} UTC" if zone == "UTC" else f"{local:%H:%M}",
    )


def done_by(
    actor: str, names: Mapping[str, str], at: datetime | None, *, zone: str = "UTC"
) -> SafeString:
    """Show who did something and when, by name where the actor is a person."""
    if not actor:
        return NONE
    return format_html("{}, {}", text(names.get(actor, actor)), instant(at, zone=zone))


def day(value: date | None) -> SafeString:
    """Show a day."""
    if value is None:
        return NONE
    return format_html(
        '<time class="k-time" datetime="{}">{}</time>', value.isoformat(), f"{value:%d %b %Y}"
    )


def age(since: datetime | None, *, now: datetime) -> SafeString:
    """Show how long ago, in the largest unit that says something."""
    if since is None:
        return NONE
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and unit == "min"):
            return format_html('<span title="{}">{} {}</span>', since, seconds // size, unit)
    return format_html('<span title="{}">now</span>', since)


def text(value: object) -> SafeString:
    """Show plain text, or that there is none."""
    return NONE if value is None or value == "" else format_html("{}", mask_ibans(str(value)))


def host(name: str) -> SafeString:
    """Show the name of a host, over several lines where the table has no room for one."""
    return format_html('<span class="k-host">{}</span>', name)


def free_text(value: str, *, at_most: int = 0) -> SafeString:
    """
    Show what a stranger wrote, such as a bank's text, with account numbers in it masked.

    With `at_most`, so many characters of it, and that there is more. Masked first: half a number
    is none to the mask.
    """
    shown = mask_account_numbers(value).strip()
    if at_most and len(shown) > at_most:
        shown = f"{shown[:at_most].rstrip()}…"
    # It may be one long word, which breaks where the room ends.
    return format_html('<span class="k-free">{}</span>', shown) if shown else NONE


def number(value: int) -> SafeString:
    """Show a count, lined up by digits."""
    return format_html('<span class="k-amount">{}</span>', f"{value:,}")


def link(url: str, label: object) -> SafeString:
    """Show a link to another screen, under a text or what another cell shows."""
    shown = label if isinstance(label, SafeString) else mask_ibans(str(label))
    return format_html('<a href="{}">{}</a>', url, shown)


def code(value: object) -> SafeString:
    """Show a technical word as it is."""
    if value is None or value == "":
        return NONE
    return format_html('<code class="k-code">{}</code>', mask_ibans(str(value)))


def words(values: object) -> SafeString:
    """Show several short words, such as the scopes of a key."""
    items = [(mask_ibans(str(one)),) for one in values] if isinstance(values, list | tuple) else []
    return format_html_join(" ", '<span class="k-word">{}</span>', items) if items else NONE


def yes_no(value: object) -> SafeString:
    """Show a truth by a word."""
    return format_html("{}", "yes" if value else "no")


def masked_iban(tail: str, *, country: str = "") -> SafeString:
    """Show the end of an IBAN; more than this never reaches a page."""
    return format_html('<span class="k-mask">{}•• •••• {}</span>', country, tail[-4:])
