"""The pages of acts: the form, what it would do, and what became of it."""

from collections.abc import Sequence
from typing import Any, Final

from django.contrib import messages
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core.admin_base._screen import Screen
from apps.core.admin_base.acts import Act, PreviewForm, fresh_form, seen_form, status_of
from apps.core.admin_base.pages import Fact, Table, zone_note, zone_of
from apps.core.errors import Refusal

# What a person can look up: no counts, and no amounts, which say no currency.
_NAMED: Final = frozenset({"ledger_account", "journal_entry", "hold", "period", "balance_at"})


class ActPages[M: Model](Screen[M]):
    """The acts of a screen, each by its own address: on a row, or on the list."""

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
            self.prepare_with_names(request, obj)
        form = act.bind(request, obj)
        if request.method != "POST" or not form.is_valid():
            return self._act_page(request, act, obj, form, status=400 if form.is_bound else 200)
        try:
            if act.preview and isinstance(form, PreviewForm) and not form.was_previewed:
                preview = act.preview(obj, form)
                return self._act_page(request, act, obj, seen_form(form), preview=preview)
            result = act.run(form, user=request.user, subject=obj)
            if act.answer is not None:
                return act.answer(result)
        except Refusal as refusal:
            # Read again: what refused it may be what changed meanwhile.
            obj = obj and self._found(request, self.key_of(obj))
            if obj is not None:
                self.prepare_with_names(request, obj)
            return self._act_page(
                request,
                act,
                obj,
                fresh_form(form, subject=obj),
                refusal=refusal,
                status=status_of(refusal),
            )
        level = messages.ERROR if act.is_bad(result) else messages.SUCCESS
        messages.add_message(request, level, act.done(result))
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
            "refused_about": self._refused_about(refusal),
            "preview": preview,
            "button": act.label(obj) if is_open else "Preview",
            "off": act.why_off(obj, request.user) if refusal is None else "",
            "zone_note": zone_note([zone_of(obj)] if obj is not None else []),
            "back_url": self.after_act(request, obj),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request, self.act_template, self._with_screen(context), status=status
        )

    def _refused_about(self, refusal: Refusal | None) -> list[tuple[str, SafeString]]:
        """Return what a refusal names, such as an account or a month; its amounts have no unit."""
        site: Any = self.admin_site
        details = refusal.details.items() if refusal is not None else ()
        return [
            (name.replace("_", " "), site.autolink(value))
            for name, value in details
            if name in _NAMED and isinstance(value, str)
        ]

    def get_act_facts(self, request: HttpRequest, obj: M) -> list[Fact]:
        """Return the facts an act's form shows, as of now."""
        return self.get_facts(request, obj)
