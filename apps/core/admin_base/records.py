"""Rows to read, and acts on them. Nobody adds, changes or deletes a row here, whoever they are."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from apps.core.admin_base import _history, cells
from apps.core.admin_base._theme import ThemeModelAdmin
from apps.core.admin_base.acts import (
    Act,
    CapabilityMissing,
    PreviewForm,
    fresh_form,
    seen_form,
    status_of,
    uuid_or_none,
)
from apps.core.admin_base.lists import Filter, Keyset, about_rows, count_bounded, typed
from apps.core.admin_base.pages import Column, Fact, Table, field_column
from apps.core.errors import Refusal
from apps.core.ids import decode_id, encode_id


def for_staff[M: Model](
    user: Any,  # noqa: ANN401  (the site's user model, which lives above)
    rows: QuerySet[M],
    *,
    column: str = "organization_id",
) -> QuerySet[M]:
    """Return the rows of the organizations this person may see: all, or those listed."""
    if user.sees_all_organizations:
        return rows
    return rows.filter(**{f"{column}__in": user.scopes.values("organization_id")})


class RecordAdmin[M: Model](ThemeModelAdmin[M]):
    """
    A screen of rows. `list_display` and `facts` name fields or methods, drawn by their kind.

    `view_capability` opens it; `prefix` prints its ids; `acts` are the only way to change a thing.
    """

    view_capability: ClassVar[str] = ""
    title: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    aggregate_type: ClassVar[str] = ""
    scope_column: ClassVar[str] = "organization_id"
    keyset: ClassVar[Keyset] = Keyset()
    filters: ClassVar[Sequence[Filter]] = ()
    facts: ClassVar[Sequence[str]] = ()
    acts: ClassVar[Sequence[Act]] = ()
    # What a state of this screen's rows feels like, where the word alone does not say it.
    tones: ClassVar[Mapping[str, str]] = {}
    related: ClassVar[Sequence[str]] = ("organization",)
    empty: ClassVar[str] = "There is nothing here."
    intro: ClassVar[str] = ""
    search_hint: ClassVar[str] = ""

    actions = None
    show_full_result_count = False
    list_max_show_all = 0
    list_template = "kassa/list.html"
    record_template = "kassa/record.html"
    act_template = "kassa/act.html"

    # --- Who may -------------------------------------------------------------------------------

    @override
    def has_view_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return bool(request.user.has_perm(self.view_capability))

    @override
    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def _refuse_stranger(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise CapabilityMissing(self.view_capability)

    # --- Where it is ---------------------------------------------------------------------------

    @override
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", wrap(self.changelist_view), name=f"{name}_changelist"),
            path("act/<slug:act>/", wrap(self.list_act_view), name=f"{name}_list_act"),
            path("<str:object_id>/", wrap(self.change_view), name=f"{name}_change"),
            path("<str:object_id>/act/<slug:act>/", wrap(self.act_view), name=f"{name}_act"),
        ]

    def key_of(self, obj: M) -> str:
        """Return the row's id as its URL and its people spell it."""
        return encode_id(self.prefix, obj.pk) if self.prefix else str(obj.pk)

    def url_of(self, obj: M) -> str:
        """Return the address of a row's page."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_change"
        return reverse(name, args=[self.key_of(obj)])

    def act_url(self, act: Act, obj: M | None) -> str:
        """Return the address of an act's form."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}"
        if obj is None:
            return reverse(f"{name}_list_act", args=[act.name])
        return reverse(f"{name}_act", args=[self.key_of(obj), act.name])

    # --- What is read --------------------------------------------------------------------------

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        rows: QuerySet[M] = self.model._default_manager.all()  # noqa: SLF001  (Django names it so)
        if self.related:
            rows = rows.select_related(*self.related)
        return self.scope(request, rows)

    def scope(self, request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
        """Narrow rows to what this person may see."""
        return for_staff(request.user, rows, column=self.scope_column)

    @override
    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> M | None:
        try:
            id_ = decode_id(self.prefix, object_id) if self.prefix else uuid_or_none(object_id)
        except Refusal:
            id_ = uuid_or_none(object_id)
        return None if id_ is None else self.get_queryset(request).filter(pk=id_).first()

    def find(self, request: HttpRequest, rows: QuerySet[M], text: str) -> QuerySet[M]:  # noqa: ARG002
        """Return the rows the search box means; by printed id, unless a screen knows more."""
        try:
            id_ = decode_id(self.prefix, text) if self.prefix else uuid_or_none(text)
        except Refusal:
            return rows.none()
        return rows.filter(pk=id_) if id_ else rows.none()

    # --- How it is drawn -----------------------------------------------------------------------

    def id_cell(self, obj: M) -> SafeString:
        """Draw the row's id, linked to its page."""
        return cells.short_id(self.prefix, obj.pk, url=self.url_of(obj))

    def column(self, name: str) -> Column:
        """Return the column of a name: a method of the screen, the id, or a field."""
        if name == "id":
            return Column("Id", self.id_cell)  # type: ignore[arg-type]  # a row of this model
        method = getattr(self, name, None)
        if callable(method):
            title = getattr(method, "short_description", "") or name.replace("_", " ").capitalize()
            return Column(str(title), method, getattr(method, "align", "start"))
        return field_column(self.model, name, tones=self.tones)

    def get_facts(self, request: HttpRequest, obj: M) -> list[Fact]:  # noqa: ARG002
        """Return the labeled values at the head of a row's page."""
        columns = [self.column(str(name)) for name in self.facts or self.list_display]
        return [Fact(column.title, column.cell(obj)) for column in columns]

    def get_act_facts(self, request: HttpRequest, obj: M) -> list[Fact]:
        """Return the facts an act's form shows, as of now."""
        return self.get_facts(request, obj)

    def get_tables(self, request: HttpRequest, obj: M) -> list[Table]:  # noqa: ARG002
        """Return the tables of a row's page."""
        return []

    def prepare(self, request: HttpRequest, rows: Sequence[M]) -> None:
        """Attach to a page's rows what is computed for all of them in one query."""

    def list_title(self) -> str:
        """Return the title of the list."""
        return self.title or str(self.opts.verbose_name_plural).capitalize()

    def headline(self, obj: M) -> str:
        """Return the title of a row's page."""
        return f"{str(self.opts.verbose_name).capitalize()} {self.key_of(obj)}"

    def lead(self, obj: M) -> Sequence[SafeString]:
        """Return what stands beside the title: state and amount."""
        return [
            cells.state(obj.state, tone=self.tones.get(obj.state, ""))
            if hasattr(obj, "state")
            else cells.EMPTY
        ]

    def list_extra(self, request: HttpRequest) -> dict[str, Any]:  # noqa: ARG002
        """Return more for the template of the list."""
        return {}

    def record_extra(self, request: HttpRequest, obj: M) -> dict[str, Any]:  # noqa: ARG002
        """Return more for the template of a row's page."""
        return {}

    # --- Pages ---------------------------------------------------------------------------------

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
        context = {
            **self.admin_site.each_context(request),
            "title": self.list_title(),
            "opts_label": self.opts.label_lower,
            "columns": columns,
            "rows": [
                [(column.cell(obj), column.align) for column in columns]  # one cell per column
                for obj in page
            ],
            "filters": chosen,
            "has_filters": bool(chosen) or bool(self.search_hint),
            "sought": request.GET.get("q", ""),
            "previous": _query(request, before=previous) if previous else "",
            "following": _query(request, after=following) if following else "",
            "first": _query(request) if request.GET.get("after") else "",
            "total": self.total(request, rows, page, previous, following),
            "count_url": _query(request, count="1"),
            "acts": self._buttons(request, None),
            **self.list_extra(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.list_template, self._with_screen(context))

    def get_page(self, request: HttpRequest, rows: QuerySet[M]) -> tuple[list[M], str, str]:
        """Return a page of the rows, and the keys of the pages before and after it."""
        query = request.GET
        return self.keyset.page(rows, after=query.get("after", ""), before=query.get("before", ""))

    def get_filters(self, request: HttpRequest) -> list[Filter]:
        """Return the filters offered: the screen's own, and whose rows where there is choice."""
        site: Any = self.admin_site
        whose = site.organization_choices(request) if self.scope_column else []
        own = list(self.filters)
        if len(whose) > 1:
            column = self.scope_column
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
            if value and value != "all":
                rows = _applied(filter_, rows, value)
        return rows, chosen

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

    @override
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one row: its facts, its tables, its history, and what may be done about it."""
        self._refuse_stranger(request)
        obj = self._found(request, object_id)
        self.prepare(request, [obj])
        acts = self._buttons(request, obj)
        context = {
            **self.admin_site.each_context(request),
            "title": self.headline(obj),
            "lead": [part for part in self.lead(obj) if part],
            "facts": self.get_facts(request, obj),
            "tables": self.get_tables(request, obj),
            "history": _history.of(obj, aggregate_type=self.aggregate_type, key=self.key_of(obj)),
            "acts": acts,
            "reasons": _reasons(acts),
            **self.record_extra(request, obj),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.record_template, self._with_screen(context))

    def _with_screen(self, context: dict[str, Any]) -> dict[str, Any]:
        list_name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return context | {
            "screen": self,
            "list_url": reverse(f"{self.admin_site.name}:{list_name}"),
            "list_title": self.list_title(),
        }

    def _found(self, request: HttpRequest, object_id: str) -> M:
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404("There is no such row, or it is not yours to see.")
        return obj

    def _buttons(self, request: HttpRequest, obj: M | None) -> list[dict[str, str | bool]]:
        """Return the acts offered; those off now carry the reason why."""
        return [
            {
                "name": act.name,
                "label": act.label(obj),
                "url": self.act_url(act, obj),
                "off": act.why_off(obj, request.user),
                "is_dangerous": act.is_dangerous,
            }
            for act in self.acts
            if act.on_list == (obj is None) and act.is_offered(obj, request.user)
        ]

    # --- Acts ----------------------------------------------------------------------------------

    def list_act_view(self, request: HttpRequest, act: str) -> HttpResponseBase:
        """Show and run an act that has no row."""
        return self._act(request, self._named(act, on_list=True), None)

    def act_view(self, request: HttpRequest, object_id: str, act: str) -> HttpResponseBase:
        """Show and run an act on one row."""
        self._refuse_stranger(request)
        found = self._named(act, on_list=False)
        return self._act(request, found, self._found(request, object_id))

    def _named(self, name: str, *, on_list: bool) -> Act:
        for act in self.acts:
            if act.name == name and act.on_list == on_list:
                return act
        raise Http404("There is no such act.")

    def _act(self, request: HttpRequest, act: Act, obj: M | None) -> HttpResponseBase:
        self._refuse_stranger(request)
        act.refuse_stranger(obj, request.user)
        if obj is not None:
            self.prepare(request, [obj])
        form = act.bind(request, obj)
        if request.method != "POST" or not form.is_valid():
            return self._act_page(request, act, obj, form, status=400 if form.is_bound else 200)
        try:
            if act.preview and isinstance(form, PreviewForm) and not form.was_previewed:
                preview = act.preview(obj, form)
                return self._act_page(request, act, obj, seen_form(form), preview=preview)
            result = act.run(form, user=request.user, subject=obj)
        except Refusal as refusal:
            # Read again: what refused it may be what changed meanwhile.
            obj = obj and self._found(request, self.key_of(obj))
            if obj is not None:
                self.prepare(request, [obj])
            return self._act_page(
                request,
                act,
                obj,
                fresh_form(form, subject=obj),
                refusal=refusal,
                status=status_of(refusal),
            )
        if act.answer is not None:
            return act.answer(result)
        messages.success(request, act.done(result))
        return HttpResponseRedirect(self.after_act(request, obj))

    def after_act(self, request: HttpRequest, obj: M | None) -> str:  # noqa: ARG002
        """Return where one is taken after an act: the row, or the list."""
        if obj is not None:
            return self.url_of(obj)
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return reverse(name)

    def _act_page(
        self,
        request: HttpRequest,
        act: Act,
        obj: M | None,
        form: Any,  # noqa: ANN401  (an ActForm; the stubs make its fields opaque)
        *,
        refusal: Refusal | None = None,
        preview: Sequence[Table] = (),
        status: int = 200,
    ) -> HttpResponse:
        is_open = act.preview is None or getattr(form, "was_previewed", False)
        context = {
            **self.admin_site.each_context(request),
            "title": act.label(obj),
            "act": act,
            "facts": self.get_act_facts(request, obj) if obj is not None else [],
            "form": form,
            "refusal": refusal,
            "preview": preview,
            "button": act.label(obj) if is_open else "Preview",
            "off": act.why_off(obj, request.user) if refusal is None else "",
            "back_url": self.after_act(request, obj),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request, self.act_template, self._with_screen(context), status=status
        )


class ReferenceAdmin[M: Model](RecordAdmin[M]):
    """Calendars, queues, policies: edited by acts that call an operation, switched off by one."""


class StaffAdmin[M: Model](RecordAdmin[M]):
    """Our own people: no organization narrows them, and no money is in reach."""

    related: ClassVar[Sequence[str]] = ()

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
        return rows


def _applied[M: Model](filter_: Filter, rows: QuerySet[M], value: str) -> QuerySet[M]:
    try:
        return filter_.apply(rows, value)
    except (ValidationError, ValueError):
        # What is no value of the column at all fits no row.
        return rows.none()


def _reasons(acts: Sequence[Mapping[str, str | bool]]) -> list[tuple[str, str]]:
    """Return why acts are off: the acts' names, and the reason they share."""
    found: dict[str, list[str]] = {}
    for act in acts:
        if act["off"]:
            found.setdefault(str(act["off"]), []).append(str(act["name"]).capitalize())
    return [(", ".join(names), reason) for reason, names in found.items()]


def _query(request: HttpRequest, **changes: str) -> str:
    query = request.GET.copy()
    for name in ("after", "before", "count"):
        query.pop(name, None)
    for name, found in changes.items():
        query[name] = found
    return f"?{query.urlencode()}" if query else "?"
