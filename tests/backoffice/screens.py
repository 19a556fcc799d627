"""Every address of the staff site, read from its register, with a row for each screen."""

import re
from dataclasses import dataclass

from django.contrib import admin
from django.urls import reverse

from apps.backoffice.views.stuck_work import RELEASE
from apps.core.admin_base.acts import Act
from apps.core.admin_base.records import RecordAdmin
from apps.core.models import AuditEvent, JobRun

WRITES = re.compile(r"^\s*(INSERT|UPDATE|DELETE|TRUNCATE)|FOR (NO KEY )?UPDATE", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """One address: what it needs, and what to expect of one who may."""

    name: str
    url: str
    capabilities: tuple[str, ...]
    act: Act | None = None


def all_screens():
    """Return every registered screen, in an order that stays."""
    found = admin.site._registry.values()
    return sorted(found, key=lambda screen: screen.opts.label_lower)


def pages():
    """Return every page that shows: home, pages of the site, lists, rows and the forms of acts."""
    yield Page("home", reverse("admin:index"), ())
    yield Page("trial_balance", reverse("admin:trial_balance"), ("ledger.view_ledger",))
    yield from stuck_pages()
    for screen in all_screens():
        yield from pages_of(screen)


def stuck_pages():
    """Return the page of stuck work, and the form that releases a row of it."""
    needed = (RELEASE.capability,)
    yield Page("stuck_work", reverse("admin:stuck_work"), needed)
    row = JobRun.objects.filter(state="quarantined").first()
    if row is not None:
        url = reverse("admin:stuck_row", args=["core.jobs", row.pk])
        yield Page("stuck_work act release", url, needed, RELEASE)


def sample(screen: RecordAdmin):
    """Return a row of the screen that everybody who may open the screen may see."""
    rows = screen.model.objects.order_by("pk")
    if screen.model is AuditEvent:
        # An admin of staff sees what was done to staff, and no act on money.
        rows = rows.filter(organization_id=None)
    return rows.last()


def pages_of(screen: RecordAdmin):
    """Return a screen's list, one row of it, and its acts."""
    label = screen.opts.label_lower
    seen = screen.view_capability
    base = f"admin:{label.replace('.', '_')}"
    yield Page(f"{label} list", reverse(f"{base}_changelist"), (seen,))
    row = sample(screen)
    if row is not None:
        yield Page(f"{label} row", screen.url_of(row), (seen,))
    for act in screen.acts:
        if act.on_list:
            url = screen.act_url(act, None)
            yield Page(f"{label} act {act.name}", url, (seen, act.capability), act)
        elif row is not None:
            url = screen.act_url(act, row)
            yield Page(f"{label} act {act.name}", url, (seen, act.needed(row)), act)
