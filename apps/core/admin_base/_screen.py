"""A screen over rows: who may see it, which rows it reads, how each of them is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core.admin_base import cells
from apps.core.admin_base._history import people
from apps.core.admin_base._theme import ThemeModelAdmin
from apps.core.admin_base.acts import Act, CapabilityMissing, uuid_or_none
from apps.core.admin_base.lists import Filter, Keyset
from apps.core.admin_base.pages import Column, Fact, field_column
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


class Screen[M: Model](ThemeModelAdmin[M]):
    """
    What every page of a screen stands on; `RecordAdmin` says how one is declared.

    Nothing here can be added, changed or deleted, whoever asks.
    """

    view_capability: ClassVar[str] = ""
    title: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    aggregate_type: ClassVar[str] = ""
    scope_column: ClassVar[str] = "organization_id"
    keyset: ClassVar[Keyset] = Keyset()
    # Whether each index that has the order of the list begins with the organization.
    is_ordered_by_organization: ClassVar[bool] = False
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

    # --- Who may ---------------------------------------------------------------------------------

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

    # --- Where it is -----------------------------------------------------------------------------

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

    # --- What is read ----------------------------------------------------------------------------

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
        return None if id_ is None else self.rows_of_pages(request).filter(pk=id_).first()

    def rows_of_pages(self, request: HttpRequest) -> QuerySet[M]:
        """Return the rows that have a page for this person, each with what that asks of it."""
        return self.get_queryset(request)

    def _found(self, request: HttpRequest, object_id: str) -> M:
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404("There is no such row, or it is not yours to see.")
        return obj

    def find(self, request: HttpRequest, rows: QuerySet[M], text: str) -> QuerySet[M]:  # noqa: ARG002
        """Return the rows the search box means; by printed id, unless a screen knows more."""
        try:
            id_ = decode_id(self.prefix, text) if self.prefix else uuid_or_none(text)
        except Refusal:
            return rows.none()
        return rows.filter(pk=id_) if id_ else rows.none()

    def prepare(self, request: HttpRequest, rows: Sequence[M]) -> None:
        """Attach to a list's rows what is computed for all of them in one query."""

    def prepare_page(self, request: HttpRequest, obj: M) -> None:
        """Attach to a row what its own page shows, and the form of an act on it."""
        self.prepare(request, [obj])

    def actors_of(self, obj: M) -> Sequence[str]:  # noqa: ARG002
        """Return who is named on a page that was prepared; their names are then `obj.names`."""
        return ()

    def prepare_with_names(self, request: HttpRequest, obj: M) -> None:
        """Prepare a row's page, and attach the names of whom it names, which are one read."""
        self.prepare_page(request, obj)
        obj.names = people(self.actors_of(obj))  # type: ignore[attr-defined]  # attached for the page

    # --- How it is drawn -------------------------------------------------------------------------

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

    def list_title(self) -> str:
        """Return the title of the list."""
        return self.title or str(self.opts.verbose_name_plural).capitalize()

    def headline(self, obj: M) -> str:
        """Return the title of a row's page."""
        return f"{str(self.opts.verbose_name).capitalize()} {self.key_of(obj)}"

    def _with_screen(self, context: dict[str, Any]) -> dict[str, Any]:
        list_name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return context | {
            "screen": self,
            "list_url": reverse(f"{self.admin_site.name}:{list_name}"),
            "list_title": self.list_title(),
        }

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
