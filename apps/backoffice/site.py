"""The staff site: its groups of screens, its home page, and what it says when it refuses."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, cast, override
from uuid import UUID

from django.apps import apps as installed
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, URLResolver, path, reverse
from django.utils.safestring import SafeString

from apps.accounts import roles
from apps.accounts.models import Organization, Staff
from apps.backoffice import queries, views
from apps.core.admin_base import CapabilityMissing, RecordAdmin, ThemeSite, cells, lists, people
from apps.core.admin_base.acts import uuid_or_none
from apps.core.admin_base.lists import NAMED

# Group, then title, icon and screen: a model's label, or the name of a page of this site.
_GROUPS: Final = (
    ("", (("Home", "space_dashboard", ":index"),)),
    (
        "Waiting",
        (
            ("Approvals", "approval_delegation", "approvals.approvalrequest"),
            ("Unmatched money", "help_center", "payments.unmatchedmoney"),
            ("Breaks", "difference", "reconciliation.break"),
        ),
    ),
    (
        "Money",
        (
            ("Customers", "group", "accounts.customer"),
            ("Payments in", "south_west", "payments.payment"),
            ("Payouts", "north_east", "payouts.payout"),
            ("Batches", "inventory_2", "payouts.payoutbatch"),
            ("Destinations", "location_on", "payouts.destination"),
        ),
    ),
    (
        "Bank",
        (
            ("Bank accounts", "account_balance", "banking.bankaccount"),
            ("Statements", "description", "banking.bankstatement"),
            ("Bank lines", "receipt_long", "banking.bankline"),
            ("Bank files", "draft", "banking.bankfile"),
        ),
    ),
    (
        "Books",
        (
            ("Ledger accounts", "account_tree", "ledger.ledgeraccount"),
            ("Journal", "menu_book", "ledger.journalentry"),
            ("Holds", "lock_clock", "ledger.hold"),
            ("Corrections", "edit_note", "backoffice.correction"),
            ("Trial balance", "balance", ":trial_balance"),
            ("Periods", "calendar_month", "ledger.period"),
            ("Balance monitors", "notifications", "ledger.balancemonitor"),
            ("Audit chains", "link", "ledger.chainhead"),
        ),
    ),
    (
        "Risk",
        (
            ("Limits", "speed", "risk.limit"),
            ("Decisions", "gavel", "risk.decision"),
        ),
    ),
    (
        "Clients",
        (
            ("Organizations", "domain", "accounts.organization"),
            ("Contacts", "contact_mail", "accounts.contact"),
            ("API keys", "key", "accounts.apikey"),
            ("Webhook endpoints", "webhook", "webhooks.webhookendpoint"),
            ("Deliveries", "outbox", "webhooks.webhookdelivery"),
            ("Events", "stream", "core.outboxevent"),
            ("Provider inbox", "inbox", "webhooks.inboundevent"),
            ("Provider connections", "cable", "webhooks.providerconnection"),
        ),
    ),
    (
        "House",
        (
            ("Audit trail", "policy", "core.auditevent"),
            ("Stuck work", "running_with_errors", ":stuck_work"),
            ("Jobs", "schedule", "core.jobrun"),
            ("Staff", "badge", "accounts.staff"),
        ),
    ),
)
_PAGES: Final = {
    ":index": "",
    ":trial_balance": "ledger.view_ledger",
    ":stuck_work": "core.requeue_work",
}
# What Django's own site also answers, and this one does not: it writes, or shows what is not ours.
_PRINTED_ID: Final = re.compile(r"([a-z]{2,4})_[0-9a-hjkmnp-tv-z]{26}")
_KEPT: Final = frozenset({"index", "login", "logout"})


def _named(request: HttpRequest) -> str:
    """Return what an organization is looked for by: part of a name, or a printed id."""
    return lists.typed(request.GET.get(NAMED, ""))


class KassaSite(ThemeSite):
    """One site for support, finance, risk and audit; what each sees follows from their roles."""

    site_title = "Kassa"
    site_header = "Kassa"
    index_title = "Home"
    enable_nav_sidebar = True
    final_catch_all_view = True
    login_form = views.sign_in.SignInForm

    @override
    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        # Groups, and what else Django registers of its own: roles are ours, and no such row is
        # edited by hand.
        given = [model_or_iterable] if isinstance(model_or_iterable, type) else model_or_iterable
        ours = [model for model in given if model.__module__.startswith("apps.")]
        super().register(ours, admin_class, **options)

    @override
    def get_urls(self) -> list[URLResolver | URLPattern]:
        kept = [
            url
            for url in super().get_urls()
            if isinstance(url, URLResolver) or url.name in _KEPT or url.name is None
        ]
        own: list[URLResolver | URLPattern] = [
            path("find/", self.admin_view(views.bind(self, views.find)), name="find"),
            path(
                "trial-balance/",
                self.admin_view(views.bind(self, views.trial_balance)),
                name="trial_balance",
            ),
            path(
                "stuck-work/",
                self.admin_view(views.bind(self, views.stuck_work)),
                name="stuck_work",
            ),
            path(
                "stuck-work/<str:kind>/<uuid:row_id>/",
                self.admin_view(views.bind(self, views.stuck_row)),
                name="stuck_row",
            ),
        ]
        return own + kept

    @override
    def admin_view[View: Callable[..., HttpResponseBase]](
        self, view: View, cacheable: bool = False
    ) -> View:
        def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # noqa: ANN401
            try:
                return view(request, *args, **kwargs)
            except CapabilityMissing as missing:
                return self.refuse(request, missing.capability)
            except Http404:
                return self._say_missing(request)

        return cast("View", super().admin_view(answered, cacheable=cacheable))

    @override
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return views.sign_in.finish(request, super().login(request, extra_context))

    @override
    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        return views.home(self, request)

    @override
    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        # The theme would write its colors into the page; ours are a file, so that the content
        # security policy needs no exception for inline styles.
        held: frozenset[str] = getattr(request.user, "role_names", frozenset)()
        return super().each_context(request) | {
            "colors": None,
            # Asked where a page offers a choice of them: most do not.
            "has_more_organizations": partial(self.has_more_organizations, request),
            "own_roles": ", ".join(sorted(role.replace("_", " ") for role in held)),
        }

    @override
    def get_log_entries(self, request: HttpRequest) -> QuerySet[LogEntry]:
        # Django's own log is not written; ours is the audit trail.
        return LogEntry.objects.none()

    # --- For the screens -----------------------------------------------------------------------

    def organizations(self, request: HttpRequest) -> list[Organization]:
        """
        Return the organizations that are offered to this person; read once per request.

        The first hundred of those they may see, or of those that are looked for by name, and the
        one that is chosen.
        """
        return self._offered(request)[0]

    def _offered(self, request: HttpRequest) -> tuple[list[Organization], bool]:
        """Return those that are offered, and whether there are more."""
        found: tuple[list[Organization], bool] | None
        found = getattr(request, "kassa_organizations", None)
        if found is None:
            chosen = uuid_or_none(request.GET.get("organization", ""))
            found = queries.organizations_of(request.user, named=_named(request), chosen=chosen)
            request.kassa_organizations = found  # type: ignore[attr-defined]  # kept for the request
        return found

    def chosen_organization(self, request: HttpRequest) -> Organization | None:
        """Return the organization a screen was opened for, else the first that may be seen."""
        seen = self.organizations(request)
        wanted = request.GET.get("organization", "")
        return next((one for one in seen if str(one.id) == wanted), seen[0] if seen else None)

    def organization_ids(self, request: HttpRequest) -> list[UUID]:
        """Return the ids of all that `organizations` offers the first of."""
        offered, has_more = self._offered(request)
        if not has_more:
            return [one.id for one in offered]
        found: list[UUID] | None = getattr(request, "kassa_organization_ids", None)
        if found is None:
            found = queries.organization_ids_of(request.user, _named(request))
            request.kassa_organization_ids = found  # type: ignore[attr-defined]  # kept for the request
        return found

    def all_organization_ids(self, request: HttpRequest) -> list[UUID]:
        """Return the ids of all that this person may see, whatever they are narrowed to."""
        if not _named(request):
            return self.organization_ids(request)
        return queries.organization_ids_of(request.user)

    def has_more_organizations(self, request: HttpRequest) -> bool:
        """Say whether one looks for an organization by name: there are more than are offered."""
        return self._offered(request)[1] or bool(_named(request))

    def organization_choices(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Return them for a filter."""
        return [(str(one.id), str(one)) for one in self.organizations(request)]

    def autolink(self, text: str) -> SafeString:
        """Show a text; one that is a printed id of a known kind links to its page."""
        match = _PRINTED_ID.fullmatch(text)
        screen = self.screen_of_prefix(match[1]) if match else None
        if screen is None:
            return cells.cut(text) if match else cells.text(text)
        name = f"{self.name}:{screen.opts.app_label}_{screen.opts.model_name}_change"
        return cells.cut(text, url=reverse(name, args=[text]))

    def screen_of_prefix(self, prefix: str) -> RecordAdmin[Any] | None:
        """Return the screen whose rows' ids begin so, if there is one."""
        for screen in self._registry.values():
            if isinstance(screen, RecordAdmin) and screen.prefix == prefix:
                return screen
        return None

    def url_of_row(self, label: str, id_: str) -> str:
        """Return the address of a row by its model's label and its UUID; none without a screen."""
        try:
            screen = self._registry[installed.get_model(label)]
        except (LookupError, ValueError):
            return ""
        name = f"{self.name}:{screen.opts.app_label}_{screen.opts.model_name}_change"
        return reverse(name, args=[id_]) if uuid_or_none(id_) else ""

    def name_people(self, request: HttpRequest, rows: Iterable[Any]) -> None:  # noqa: ARG002
        """Attach to rows the name of the person who acted, in one read for all of them."""
        listed = list(rows)
        actors = {row: getattr(row, "principal", "") or getattr(row, "actor", "") for row in listed}
        names = people(actors.values())
        for row, actor in actors.items():
            row.person = names.get(actor, "")

    # --- The menu ------------------------------------------------------------------------------

    def menu(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Return the groups and screens that this person may open."""
        groups = [
            {
                "title": title,
                "items": [
                    item for entry in entries if (item := self._item(request, *entry)) is not None
                ],
            }
            for title, entries in _GROUPS
        ]
        return [group for group in groups if group["items"]]

    def _item(
        self, request: HttpRequest, title: str, icon: str, screen: str
    ) -> dict[str, Any] | None:
        link = self._link(request, screen)
        if link is None:
            return None
        here = request.path
        is_active = here == link if screen == ":index" else here.startswith(link)
        return {
            "title": title,
            "icon": icon,
            # Unfold's own leaves the icon's name to be read aloud.
            "icon_template": "kassa/_icon.html",
            "link": link,
            "active": is_active,
            "has_permission": True,
        }

    def _link(self, request: HttpRequest, screen: str) -> str | None:
        if screen in _PAGES:
            capability = _PAGES[screen]
            allowed = not capability or request.user.has_perm(capability)
            return reverse(f"{self.name}{screen}") if allowed else None
        try:
            model = installed.get_model(screen)
            if not self._registry[model].has_view_permission(request):
                return None
            return reverse(f"{self.name}:{screen.replace('.', '_')}_changelist")
        except (LookupError, NoReverseMatch):
            return None

    def get_sidebar_list(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Return the menu as unfold's sidebar wants it."""
        return self.menu(request)

    @override
    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the menu as Django's own sidebar wants it."""
        return [
            {
                "name": group["title"] or "Kassa",
                "app_label": group["title"].lower() or "kassa",
                "app_url": reverse(f"{self.name}:index"),
                "has_module_perms": True,
                "models": [
                    {
                        "name": item["title"],
                        "object_name": item["title"].replace(" ", ""),
                        "perms": {"view": True},
                        "admin_url": item["link"],
                        "add_url": None,
                        "view_only": True,
                    }
                    for item in group["items"]
                ],
            }
            for group in self.menu(request)
        ]

    # --- Refused, missing ----------------------------------------------------------------------

    def refuse(self, request: HttpRequest, capability: str) -> HttpResponse:
        """Answer 403, naming the capability and who has it."""
        row = roles.CAPABILITIES.get(capability)
        context = {
            **self.each_context(request),
            "title": "Not yours to do",
            "capability": capability,
            "capability_title": row.title if row else capability,
            "holders": Staff.holders_of(capability) if row else [],
        }
        return TemplateResponse(request, "kassa/refused.html", context, status=403)

    def _say_missing(self, request: HttpRequest) -> HttpResponse:
        context = {
            **self.each_context(request),
            "title": "Nothing here",
            "explanation": "There is no such page or row, or it is not yours to see.",
        }
        return TemplateResponse(request, "kassa/refused.html", context, status=404)
