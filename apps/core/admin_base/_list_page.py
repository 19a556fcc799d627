"""The list of a screen: filtered, a page at a time, counted as far as one may."""

from typing import Any, override

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.core.admin_base._screen import Screen
from apps.core.admin_base.lists import NAMED, Filter, about_rows, count_bounded, typed
from apps.core.admin_base.pages import zone_note, zone_of


class ListPage[M: Model](Screen[M]):
    """The rows a person may see, narrowed by search and filters."""

    @override
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one page of rows."""
        self._refuse_stranger(request)
        rows, chosen = self._narrow(request)
        page, previous, following = self.get_page(request, rows)
        self.prepare(request, page)
        columns = [self.column(str(name)) for name in self.get_list_display(request)]
        drawn = [
            [(column.cell(obj), column.align) for column in columns]  # one cell per column
            for obj in page
        ]
        is_placed = bool(request.GET.get("after") or request.GET.get("before"))
        has_times = any("<time" in cell for row in drawn for cell, _ in row)
        context = {
            **self.admin_site.each_context(request),
            "title": self.list_title(),
            "opts_label": self.opts.label_lower,
            "columns": columns,
            "rows": drawn,
            "filters": chosen,
            "has_filters": bool(chosen) or bool(self.search_hint),
            "sought": request.GET.get("q", ""),
            "previous": _query(request, before=previous) if previous else "",
            "following": _query(request, after=following) if following else "",
            "first": _query(request) if is_placed and (previous or not page) else "",
            "empty_words": _words_of_none(request, previous, following),
            "total": self.total(request, rows, page, previous, following),
            "count_url": _query(request, count="1"),
            "acts": self._buttons(request, None),
            "zone_note": zone_note(map(zone_of, page)) if has_times else "",
            **self.list_extra(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.list_template, self._with_screen(context))

    def list_extra(self, request: HttpRequest) -> dict[str, Any]:  # noqa: ARG002
        """Return more for the template of the list."""
        return {}

    def get_filters(self, request: HttpRequest) -> list[Filter]:
        """Return the filters offered: the screen's own, and whose rows where there is choice."""
        site: Any = self.admin_site
        whose = site.organization_choices(request) if self.scope_column else []
        own = list(self.filters)
        column = self.scope_column
        if column and site.has_more_organizations(request):
            own.append(
                Filter(
                    NAMED,
                    "Organization's name",
                    # By their ids: of a statement in its place Postgres cannot tell how few rows
                    # they have, and reads all rows in the order of the list.
                    lambda rows, _text: rows.filter(
                        **{f"{column}__in": site.organization_ids(request)}
                    ),
                    placeholder="Part of it, or org_…",
                )
            )
        if len(whose) > 1:
            own.append(
                Filter(
                    "organization",
                    "Organization",
                    lambda rows, id_: rows.filter(**{column: id_}),
                    whose,
                )
            )
        return own

    def _narrow(self, request: HttpRequest) -> tuple[QuerySet[M], list[tuple[Filter, str]]]:
        rows = self.get_queryset(request)
        sought = typed(request.GET.get("q", ""))
        chosen = [(filter_, filter_.chosen(request.GET)) for filter_ in self.get_filters(request)]
        if sought:
            # What one looks for by its id is found whatever the filters say.
            return self.find(request, rows, sought), chosen
        for filter_, value in chosen:
            # Typed, "all" is a text as any other.
            if value and not (filter_.choices and value == "all"):
                rows = _applied(filter_, rows, value)
        return rows, chosen

    def get_page(self, request: HttpRequest, rows: QuerySet[M]) -> tuple[list[M], str, str]:
        """Return a page of the rows, and the keys of the pages before and after it."""
        owners = None
        # What is sought by its name is found by an index of its own, and is little.
        if self.is_ordered_by_organization and not typed(request.GET.get("q", "")):
            seen = self.admin_site.organization_ids(request)  # type: ignore[attr-defined]  # our site's
            named = request.GET.get("organization", "")
            owners = [id_ for id_ in seen if str(id_) == named] or seen
        query = request.GET
        return self.keyset.page(
            rows, after=query.get("after", ""), before=query.get("before", ""), owners=owners
        )

    def total(
        self, request: HttpRequest, rows: QuerySet[M], page: list[M], previous: str, following: str
    ) -> str:
        """Return how many rows there are, as far as one knows; empty where it is to be asked."""
        if request.GET.get("count"):
            counted, more = count_bounded(rows)
            return f"{counted:,}+ rows" if more else f"{counted:,} rows"
        if not previous and not following:
            return f"{len(page):,} {'row' if len(page) == 1 else 'rows'}"
        sees_all = getattr(request.user, "sees_all_organizations", False)
        estimate = about_rows(self.model) if sees_all and not request.GET else -1
        return f"about {estimate:,} rows" if estimate > len(page) else ""


def _applied[M: Model](filter_: Filter, rows: QuerySet[M], value: str) -> QuerySet[M]:
    try:
        return filter_.apply(rows, value)
    except (ValidationError, ValueError):
        # What is no value of the column at all fits no row.
        return rows.none()


def _words_of_none(request: HttpRequest, previous: str, following: str) -> str:
    """Return what a page without rows says that one came to by a key; else nothing."""
    is_after = bool(request.GET.get("after"))
    is_before = bool(request.GET.get("before")) and not is_after
    if is_before and previous:
        return "No row so far; the previous page looks further on."
    if is_before:
        return "No row fits before the page that you came from."
    if following:
        return "No row so far; the next page looks further back."
    return "No row fits after the page that you came from." if is_after else ""


def _query(request: HttpRequest, **changes: str) -> str:
    query = request.GET.copy()
    for name in ("after", "before", "count"):
        query.pop(name, None)
    for name, found in changes.items():
        query[name] = found
    return f"?{query.urlencode()}" if query else "?"
