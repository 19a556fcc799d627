"""What a screen is made of: columns, tables, facts. Values only; templates draw them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from django.db import models
from django.utils.safestring import SafeString

from apps.core.admin_base import cells

type Align = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list: its title, and how a row's cell is made."""

    title: str
    cell: Callable[[models.Model], SafeString]
    align: Align = "start"


@dataclass(frozen=True, slots=True)
class Fact:
    """One labeled value of a page."""

    title: str
    value: SafeString | str
    wide: bool = False


@dataclass(slots=True)
class Table:
    """
    One table of a page. A column's title that begins with `>` is aligned to the end.

    `empty` is the sentence for no rows: what would be here, and why there is none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[SafeString | str]] = field(default_factory=list)
    empty: str = "Nothing here yet."
    note: str = ""
    more_url: str = ""
    more_label: str = ""
    totals: Sequence[SafeString | str] = ()

    @property
    def heads(self) -> list[tuple[str, Align]]:
        """Return titles and alignments."""
        return [(title.lstrip(">"), _align(title)) for title in self.columns]

    @property
    def body(self) -> list[list[tuple[SafeString | str, Align]]]:
        """Return the rows' cells with their alignment."""
        aligns = [_align(title) for title in self.columns]
        return [list(zip(row, aligns, strict=True)) for row in self.rows]

    @property
    def foot(self) -> list[tuple[SafeString | str, Align]]:
        """Return the totals' cells with their alignment."""
        aligns = [_align(title) for title in self.columns]
        return list(zip(self.totals, aligns, strict=True)) if self.totals else []


def shown[F: Callable[..., SafeString]](
    title: str = "", *, align: Align = "start"
) -> Callable[[F], F]:
    """Give a method of a screen its column's title and alignment."""

    def marked(method: F) -> F:
        method.__dict__.update(align=align, **({"short_description": title} if title else {}))
        return method

    return marked


def _align(title: str) -> Align:
    return "end" if title.startswith(">") else "start"


def field_column(model: type[models.Model], name: str, *, tones: Mapping[str, str]) -> Column:
    """Return the column of a model's field, drawn by what kind of field it is."""
    found = model._meta.get_field(name)
    label = str(getattr(found, "verbose_name", name))
    if name.endswith("_minor"):
        return Column(_sentence(label.removesuffix(" minor")), _amount(name), "end")
    if name in {"state", "status"}:
        return Column(_sentence(label), lambda row: _state(getattr(row, name), tones))
    if isinstance(found, models.IntegerField):
        return Column(_sentence(label), lambda row: _number(getattr(row, name)), "end")
    return Column(_sentence(label.removesuffix(" at")), lambda row: value(row, name))


def value(row: models.Model, name: str) -> SafeString:
    """Draw one attribute of a row by the kind of its value."""
    found = getattr(row, name)
    match found:
        case datetime():
            return cells.instant(found, zone=zone_of(row))
        case date():
            return cells.day(found)
        case bool():
            return cells.yes_no(found)
        case list() | tuple():
            return cells.words(found)
        case _:
            return cells.text(found)


def zone_of(row: models.Model) -> str:
    """Return the zone of the row's organization, if the query brought it along."""
    organization = row._state.fields_cache.get("organization")  # noqa: SLF001  (no query for this)
    return str(getattr(organization, "time_zone", "UTC"))


def zone_note(zones: Iterable[str]) -> str:
    """Say once on a page by whose clocks its times are; nothing where each says UTC itself."""
    named = sorted({zone for zone in zones if zone != "UTC"})
    if not named:
        return ""
    if len(named) == 1:
        return f"Times are by the clocks of {named[0]}; UTC on hover."
    return f"Times are by the clocks of each row's organization ({', '.join(named)}); UTC on hover."


def _amount(name: str) -> Callable[[models.Model], SafeString]:
    def cell(row: models.Model) -> SafeString:
        return cells.amount(getattr(row, name), getattr(row, "currency", ""))

    return cell


def _state(found: str, tones: Mapping[str, str]) -> SafeString:
    return cells.state(found, tone=tones.get(found, ""))


def _number(found: int | None) -> SafeString:
    return cells.NONE if found is None else cells.number(found)


def _sentence(label: str) -> str:
    return label[:1].upper() + label[1:]


def facts(pairs: Iterable[tuple[str, SafeString | str]]) -> list[Fact]:
    """Return facts of title and value."""
    return [Fact(title, shown) for title, shown in pairs]
