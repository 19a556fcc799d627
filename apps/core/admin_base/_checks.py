"""System checks: every screen stands on our bases, and no screen is an editor of tables."""

from django.apps import apps
from django.contrib import admin
from django.core import checks

from apps.core.admin_base.acts import PreviewForm
from apps.core.admin_base.records import RecordAdmin

_ALLOWED = "RecordAdmin, ReferenceAdmin or StaffAdmin"


def screens_only_show(**_: object) -> list[checks.CheckMessage]:
    """Refuse a screen on another base, or one that could write past an operation."""
    return [
        message
        for model, screen in admin.site._registry.items()  # noqa: SLF001  (the register itself)
        for message in _faults(model._meta.label, screen)
    ]


def _faults(label: str, screen: object) -> list[checks.CheckMessage]:
    if not isinstance(screen, RecordAdmin):
        return [checks.Error(f"The screen of {label} is no {_ALLOWED}.", id="kassa.E010")]
    rules = {
        "kassa.E011": ("has list_editable", bool(screen.list_editable)),
        "kassa.E012": ("overrides save_model", _overrides(screen, "save_model")),
        "kassa.E013": ("has inlines, which write", bool(screen.inlines)),
        "kassa.E014": ("has actions, which run without a form", bool(screen.actions)),
        "kassa.E015": ("names no capability to see it", not screen.view_capability),
        "kassa.E016": ("shows a sealed column", _shows_sealed(screen)),
        "kassa.E017": ("has an act whose preview its form does not carry", _forgets(screen)),
    }
    return [
        checks.Error(f"The screen of {label} {fault}.", id=id_)
        for id_, (fault, is_broken) in rules.items()
        if is_broken
    ]


def _overrides(screen: object, name: str) -> bool:
    return getattr(type(screen), name) is not getattr(RecordAdmin, name)


def _shows_sealed(screen: RecordAdmin[object]) -> bool:  # type: ignore[type-var]  # any model
    named = [*screen.list_display, *screen.facts, *screen.search_fields, *screen.keyset.columns]
    filtered = [filter_.name for filter_ in screen.filters]
    return any("sealed" in str(name) for name in [*named, *filtered])


def _forgets(screen: RecordAdmin[object]) -> bool:  # type: ignore[type-var]  # any model
    return any(act.preview and not issubclass(act.form, PreviewForm) for act in screen.acts)


def register() -> None:
    """Register the checks; called once the admin is there."""
    if apps.is_installed("django.contrib.admin"):
        checks.register(screens_only_show, checks.Tags.admin)
