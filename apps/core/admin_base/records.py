"""Rows to read, and acts on them. Nobody adds, changes or deletes a row here, whoever they are."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from apps.core.admin_base import _history, cells
from apps.core.admin_base._act_pages import ActPages
from apps.core.admin_base._list_page import ListPage
from apps.core.admin_base.pages import Table, zone_note, zone_of
from apps.core.text import mask_ibans


class RecordAdmin[M: Model](ListPage[M], ActPages[M]):
    """
    A screen of rows. `list_display` and `facts` name fields or methods, drawn by their kind.

    `view_capability` opens it; `prefix` prints its ids; `acts` are the only way to change a thing.
    """

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
        happened = _history.read(obj, aggregate_type=self.aggregate_type, key=self.key_of(obj))
        self.prepare_with_names(request, obj)
        acts = self._buttons(request, obj)
        context = {
            **self.admin_site.each_context(request),
            "title": mask_ibans(self.headline(obj)),
            "lead": [part for part in self.lead(obj) if part],
            "facts": self.get_facts(request, obj),
            "tables": self.get_tables(request, obj),
            "history": happened.lines,
            "acts": acts,
            "reasons": _reasons(acts),
            "zone_note": zone_note([zone_of(obj)]),
            **self.record_extra(request, obj),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.record_template, self._with_screen(context))

    def lead(self, obj: M) -> Sequence[SafeString]:
        """Return what stands beside the title: state and amount."""
        return [
            cells.state(obj.state, tone=self.tones.get(obj.state, ""))
            if hasattr(obj, "state")
            else cells.EMPTY
        ]

    def get_tables(self, request: HttpRequest, obj: M) -> list[Table]:  # noqa: ARG002
        """Return the tables of a row's page."""
        return []

    def record_extra(self, request: HttpRequest, obj: M) -> dict[str, Any]:  # noqa: ARG002
        """Return more for the template of a row's page."""
        return {}


class ReferenceAdmin[M: Model](RecordAdmin[M]):
    """Calendars, queues, policies: edited by acts that call an operation, switched off by one."""


class StaffAdmin[M: Model](RecordAdmin[M]):
    """Our own people: no organization narrows them, and no money is in reach."""

    related: ClassVar[Sequence[str]] = ()

    @override
    def scope(self, request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
        return rows


def _reasons(acts: Sequence[Mapping[str, str | bool]]) -> list[tuple[str, str]]:
    """Return why acts are off: what stands on their buttons, and the reason they share."""
    found: dict[str, list[str]] = {}
    for act in acts:
        if act["off"]:
            found.setdefault(str(act["off"]), []).append(str(act["label"]))
    return [(", ".join(names), reason) for reason, names in found.items()]
