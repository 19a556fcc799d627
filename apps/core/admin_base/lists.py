"""
Lists of a million rows: pages by key, filters that have an index, counts with a bound.

No OFFSET and no COUNT: a page is fifty-one rows after a key; whether there is a next one is
whether the fifty-first came (ADR 0062).
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import connection, models
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL
from django.http import QueryDict

from apps.core.sifting import sift

PAGE_ROWS: Final = 50
COUNT_MAX: Final = 10_000
# What an organization is looked for by in an address: part of its name, or its printed id.
NAMED: Final = "whose"

# At the end of a key: a page begins at the row itself, and not behind it.
_ROW_TOO: Final = "="
type _Place = tuple[list[str], bool]


@dataclass(frozen=True, slots=True)
class Keyset:
    """The order of a list: columns of one index, and the id where they tie."""

    columns: tuple[str, ...] = ()
    descending: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns of the order, the id last."""
        return (*self.columns, "pk")

    def page(
        self,
        rows: QuerySet[Any],
        *,
        after: str = "",
        before: str = "",
        owners: Sequence[UUID] | None = None,
    ) -> tuple[list[Any], str, str]:
        """
        Return a page, and the keys for the pages before and after it (empty: none).

        With `owners`, of their rows, where every index that has the order begins with them.
        """
        backwards = bool(before) and not after
        descending = self.descending != backwards
        key, rows = self._started(rows, before if backwards else after, descending=descending)
        if owners is None:
            found = list(rows.order_by(*self._order(descending=descending))[: PAGE_ROWS + 1])
        else:
            found = self._of_each(rows, owners, descending=descending)
        has_more, found = len(found) > PAGE_ROWS, found[:PAGE_ROWS]
        if not found:
            return [], *self._round(self._back(key), "", backwards=backwards)
        if backwards:
            found.reverse()
        has_previous = has_more if backwards else key is not None
        has_next = has_more or backwards
        return (
            found,
            self._key(found[0]) if has_previous else "",
            self._key(found[-1]) if has_next else "",
        )

    def sifted(
        self, rows: QuerySet[Any], sieve: Q, *, after: str = "", before: str = ""
    ) -> tuple[list[Any], str, str]:
        """
        Return what `page` does, of those rows that the sieve lets through: it has no index.

        Looked for so many at a time: a page may have few rows or none, and one after it.
        """
        backwards = bool(before) and not after
        descending = self.descending != backwards
        key, lane = self._started(rows, before if backwards else after, descending=descending)
        found = sift(
            lane,
            sieve,
            order=self._order(descending=descending),
            beyond=partial(self._beyond, descending=descending),
            up_to=partial(self._beyond, descending=not descending, inclusive=True),
            count=PAGE_ROWS + 1,
        )
        page = found.rows[:PAGE_ROWS]
        further = self._token(found.stopped) if found.stopped is not None else ""
        if len(found.rows) > PAGE_ROWS:
            further = self._key(page[-1])
        back = self._back(key)
        if page and key is not None:
            back = self._key(page[0])
        if backwards:
            page.reverse()
        return page, *self._round(back, further, backwards=backwards)

    def _started(
        self, rows: QuerySet[Any], token: str, *, descending: bool
    ) -> tuple[_Place | None, QuerySet[Any]]:
        """Return where a page starts, and the rows from there; without a place all of them."""
        place = self._read(token)
        if place is None:
            return None, rows
        key, is_row_too = place
        try:
            beyond = self._beyond(key, descending=descending, inclusive=is_row_too)
            return place, rows.filter(beyond)
        except (ValidationError, ValueError):
            return None, rows

    def _back(self, place: _Place | None) -> str:
        """
        Return the way back from a page without rows: to the rows up to its start.

        The row it started behind was on the page before, and is on the page that this leads to.
        """
        if place is None:
            return ""
        key, is_row_too = place
        return self._token(key, is_row_too=not is_row_too)

    @staticmethod
    def _round(back: str, further: str, *, backwards: bool) -> tuple[str, str]:
        """Return the keys of the pages before and after, whichever way one came."""
        return (further, back) if backwards else (back, further)

    def _of_each(
        self, rows: QuerySet[Any], owners: Sequence[UUID], *, descending: bool
    ) -> list[Any]:
        """
        Return the first rows of all owners, each of whom is looked into for its own first ones.

        Asked for the first of several owners Postgres reads and sorts all that they have. A page
        has rows of no more owners than it has rows: of those whose own first one comes first.
        """
        own = rows.filter(organization_id=RawSQL("whose.id", ()))
        own = own.order_by(*self._order(descending=descending))
        own = own.values_list("organization_id", *self.names)
        try:
            if len(owners) > PAGE_ROWS + 1:
                first = self._first(own[:1], owners, descending=descending)
                owners = [organization_id for organization_id, *_ in first]
            found = self._first(own[: PAGE_ROWS + 1], owners, descending=descending)
        except EmptyResultSet:
            # What is looked for is nothing that a row could be.
            return []
        places = {key[-1]: place for place, key in enumerate(found)}
        shown = rows.filter(organization_id__in=owners, pk__in=places)
        return sorted(shown, key=lambda row: places[row.pk])

    def _first(
        self, own: QuerySet[Any, Any], owners: Sequence[UUID], *, descending: bool
    ) -> list[tuple[Any, ...]]:
        """Return the first of what is read of each owner: whose it is, and its key."""
        statement, values = own.query.sql_with_params()
        direction = "DESC" if descending else "ASC"
        order = ", ".join(f"{place} {direction}" for place in range(2, len(self.names) + 2))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT found.* FROM unnest(%s::uuid[]) AS whose (id)"  # noqa: S608  (the rows' own statement)
                f" CROSS JOIN LATERAL ({statement}) AS found ORDER BY {order} LIMIT %s",
                [list(owners), *values, PAGE_ROWS + 1],
            )
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def _order(self, *, descending: bool) -> list[str]:
        return [f"-{name}" if descending else name for name in self.names]

    def _beyond(self, key: Sequence[Any], *, descending: bool, inclusive: bool = False) -> Q:
        operator = "lt" if descending else "gt"
        beyond, same = Q(), Q()
        for name, value in zip(self.names, key, strict=True):
            beyond |= same & Q(**{f"{name}__{operator}": value})
            same &= Q(**{name: value})
        if inclusive:
            beyond |= same
        # The first column alone bounds the range for the index; the rest decides within it.
        return Q(**{f"{self.names[0]}__{operator}e": key[0]}) & beyond

    def _key(self, row: models.Model) -> str:
        return self._token([getattr(row, name) for name in self.names])

    def _token(self, key: Sequence[Any], *, is_row_too: bool = False) -> str:
        values = [_text(value) for value in key]
        if is_row_too:
            values.append(_ROW_TOO)
        raw = json.dumps(values, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def _read(self, token: str) -> _Place | None:
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            values = [str(value) for value in json.loads(raw)] if token else []
            # JSON can spell half of a surrogate pair, which is no text for Postgres either.
            "".join(values).encode()
        except (binascii.Error, ValueError, TypeError):
            values = []
        count = len(self.names)
        key, rest = values[:count], values[count:]
        # A key that is not ours shows the first page.
        is_ours = len(key) == count and rest in ([], [_ROW_TOO]) and "\x00" not in "".join(key)
        return (key, bool(rest)) if is_ours else None


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def typed(text: str) -> str:
    """Return what a person typed, without what Postgres has no text for."""
    return text.replace("\x00", "").strip()[:200]


@dataclass(frozen=True, slots=True)
class Filter:
    """
    One filter of a list: choices to select from, or a text where there are none.

    `default` is applied when the page is opened without a choice; `all` lifts it, unless one of the
    choices `is_needed`. A filter that `is_linked` has no control: other pages link to it, and the
    list says that it is narrowed.
    """

    name: str
    title: str
    apply: Callable[[QuerySet[Any], str], QuerySet[Any]]
    choices: Sequence[tuple[str, str]] = ()
    default: str = ""
    placeholder: str = ""
    is_linked: bool = False
    input_type: str = "text"
    is_needed: bool = False

    def chosen(self, query: QueryDict) -> str:
        """Return what the page was opened with; an unknown choice is none."""
        text = typed(query.get(self.name, self.default))
        known = {value for value, _ in self.choices}
        if not known or text in known or (text == "all" and not self.is_needed):
            return text
        return self.default


def choice(
    name: str, choices: Sequence[tuple[str, Any]], *, title: str = "", default: str = ""
) -> Filter:
    """Filter by one value of a column with few of them."""
    return Filter(
        name,
        title or name.replace("_", " ").capitalize(),
        lambda rows, value: rows.filter(**{name: value}),
        [(value, str(label).replace("_", " ").capitalize()) for value, label in choices],
        default,
    )


def exact(name: str, title: str, *, placeholder: str = "", lookup: str = "") -> Filter:
    """Filter by the exact value of an indexed column."""
    return Filter(
        name,
        title,
        lambda rows, value: rows.filter(**{lookup or name: value}),
        placeholder=placeholder,
    )


def linked(name: str, title: str) -> Filter:
    """Filter by the row that a link came from."""
    return Filter(name, title, lambda rows, id_: rows.filter(**{name: id_}), is_linked=True)


def searched(
    name: str,
    title: str,
    *,
    placeholder: str = "",
    choices: Sequence[tuple[str, str]] = (),
    input_type: str = "text",
    is_linked: bool = False,
) -> Filter:
    """Offer what the screen's own search reads; the rows themselves are left as they are."""
    return Filter(
        name,
        title,
        lambda rows, _value: rows,
        choices,
        placeholder=placeholder,
        is_linked=is_linked,
        input_type=input_type,
    )


def of_one_organization(filters: Sequence[Filter]) -> list[Filter]:
    """Return a list's filters for a search of one organization: which one is always named."""
    return [
        replace(one, default=one.choices[0][0], is_needed=True)
        if one.name == "organization"
        else one
        for one in filters
    ]


def prefix(name: str, title: str, *, placeholder: str = "") -> Filter:
    """Filter by how an indexed column begins."""
    return Filter(
        name,
        title,
        lambda rows, value: rows.filter(**{f"{name}__startswith": value}),
        placeholder=placeholder,
    )


def since(name: str, title: str, *, now: Callable[[], datetime], default: str = "30") -> Filter:
    """Filter by how many days back, 30 unless told."""

    def apply(rows: QuerySet[Any], days: str) -> QuerySet[Any]:
        midnight = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return rows.filter(**{f"{name}__gte": midnight - timedelta(days=int(days) - 1)})

    spans = [("1", "Today"), ("7", "Last 7 days"), ("30", "Last 30 days"), ("365", "Last year")]
    return Filter("since", title, apply, spans, default)


def count_bounded(rows: QuerySet[Any], *, at_most: int = COUNT_MAX) -> tuple[int, bool]:
    """Return how many rows there are, and whether there are more than the bound."""
    counted = rows.order_by().values("pk")[: at_most + 1].count()
    return min(counted, at_most), counted > at_most


def about_rows(model: type[models.Model]) -> int:
    """Return Postgres' own estimate of a table's rows; -1 where it was never analyzed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
            [model._meta.db_table],
        )
        return int(cursor.fetchone()[0])
