"""The customer's page, over every app that knows the customer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, override
from uuid import UUID

from cryptography.exceptions import InvalidTag
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.accounts import operations as customers
from apps.accounts import queries as accounts
from apps.accounts.models import Customer
from apps.accounts.roles import Role
from apps.accounts.rules import masked_email, masked_name
from apps.accounts.states import CustomerState
from apps.backoffice import operations, queries
from apps.core import clock, encryption
from apps.core.admin_base import (
    Act,
    Fact,
    Filter,
    RecordAdmin,
    Table,
    cells,
    lists,
    shown,
    zone_of,
)
from apps.core.ids import encode_id

ROWS_SHOWN = 10


def _freeze_is_off(customer: Customer, user: Any) -> str:  # noqa: ANN401  (the signed-in person)
    is_to_be_theirs = _is_of_compliance(user) and not customer.is_frozen_by_compliance
    if customer.state == CustomerState.FROZEN and is_to_be_theirs:
        return ""
    return "" if customer.state == CustomerState.OPEN else f"It is {customer.state} already."


def _unfreeze_is_off(customer: Customer, user: Any) -> str:  # noqa: ANN401  (likewise)
    if customer.state != CustomerState.FROZEN:
        return f"It is {customer.state}: there is no freeze to lift."
    if customer.is_frozen_by_compliance and not _is_of_compliance(user):
        return "Compliance froze this customer: they alone lift it."
    return "It waits for a second person already." if _lifting(customer) else ""


def _is_of_compliance(user: Any) -> bool:  # noqa: ANN401  (likewise)
    return Role.COMPLIANCE in user.role_names()


def _lifting(customer: Customer) -> UUID | None:
    found: UUID | None = customer.lifting_id  # type: ignore[attr-defined]  # attached by prepare
    return found


def _frozen_words(customer: Customer) -> str:
    whose = " of compliance" if customer.is_frozen_by_compliance else ""
    return f"Frozen. Nothing of theirs leaves until two people{whose} lift it."


@admin.register(Customer)
class CustomerAdmin(RecordAdmin[Customer]):
    """Whose money we keep."""

    view_capability = "accounts.view_customer"
    prefix = "cus"
    aggregate_type = "customer"
    intro = "Whose money we keep. Names and e-mails are encrypted; here they are masked."
    empty = "No customer was created yet."
    tones: ClassVar[Mapping[str, str]] = {"open": "good"}
    search_hint = "cus_… or the client's own id"
    list_display = ("id", "external_id", "organization", "state", "frozen_at", "created_at")
    filters: ClassVar[Sequence[Filter]] = (lists.choice("state", CustomerState.choices),)
    acts = (
        Act(
            name="freeze",
            capability="accounts.freeze_customer",
            operation=customers.freeze_customer,
            label=lambda _customer: "Freeze this customer",
            off=_freeze_is_off,
            done=_frozen_words,
            presets=("The customer reports a stolen phone.", "Asked for by the authorities."),
            is_dangerous=True,
            note="Takes effect at once. Payouts that are in no file yet stop; money may come in. "
            "What compliance freezes, also once it is frozen, they alone lift.",
        ),
        Act(
            name="unfreeze",
            capability="accounts.unfreeze_customer",
            operation=operations.request_unfreeze,
            label=lambda _customer: "Ask for the freeze to be lifted",
            off=_unfreeze_is_off,
            done=lambda asked: f"Asked; it is {asked.state} until another person decides it.",
            presets=("The customer has a new phone.", "Looked at: nothing was wrong."),
            note="Another person decides it, in Approvals; it stays frozen until then. Payouts "
            "that the freeze held stay held: each is released, or canceled, on its own page.",
        ),
    )

    @override
    def find(self, request: HttpRequest, rows: QuerySet[Customer], text: str) -> QuerySet[Customer]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        if "@" in text and request.method == "POST":
            return self._by_email(request, rows, text)
        return rows.filter(external_id=text)

    def _by_email(
        self, request: HttpRequest, rows: QuerySet[Customer], email: str
    ) -> QuerySet[Customer]:
        # Each organization has its own blind index; the text itself is in no row and no log.
        indexes = [
            encryption.blind_index(id_, "customer.email", email.strip().lower())
            for id_ in self.admin_site.all_organization_ids(request)  # type: ignore[attr-defined]  # ours
        ]
        return rows.filter(email_index__in=indexes)

    @override
    def headline(self, obj: Customer) -> str:
        return f"Customer {obj.external_id or self.key_of(obj)}"

    @override
    def prepare_page(self, request: HttpRequest, obj: Customer) -> None:
        is_frozen = obj.state == CustomerState.FROZEN
        obj.lifting_id = (  # type: ignore[attr-defined]  # attached for the page and its acts
            queries.find_waiting_unfreeze(customer=obj, now=clock.now()) if is_frozen else None
        )

    @shown("Frozen")
    def frozen_at(self, obj: Customer) -> SafeString:
        return cells.instant(obj.frozen_at, zone=zone_of(obj))

    @override
    def get_facts(self, request: HttpRequest, obj: Customer) -> list[Fact]:
        return [
            Fact("Id", self.id_cell(obj)),
            Fact("Client's own id", cells.text(obj.external_id)),
            Fact("Organization", cells.text(obj.organization)),
            Fact("Name", _masked(lambda: accounts.unseal_name(obj), masked_name)),
            Fact("E-mail", _masked(lambda: accounts.unseal_email(obj) or "", masked_email)),
            Fact("Since", cells.instant(obj.created_at, zone=zone_of(obj))),
            *_freeze_facts(obj, sees_approvals=request.user.has_perm("ledger.view_ledger")),
        ]

    @override
    def get_tables(self, request: HttpRequest, obj: Customer) -> list[Table]:
        page = queries.customer_page(customer=obj, limit=ROWS_SHOWN, now=clock.now())
        show = self.admin_site.autolink  # type: ignore[attr-defined]  # our site's
        is_linked = request.user.has_perm("ledger.view_ledger")
        return [
            _balances(page, is_linked=is_linked),
            *(
                [_holds(page, zone=zone_of(obj), show=show, is_linked=is_linked)]
                if page.holds
                else []
            ),
            _payouts(page, zone=zone_of(obj)),
            _payments(page, zone=zone_of(obj)),
            _destinations(page, zone=zone_of(obj)),
        ]


def _freeze_facts(customer: Customer, *, sees_approvals: bool) -> list[Fact]:
    if customer.state != CustomerState.FROZEN:
        return []
    frozen = Fact("Frozen", cells.instant(customer.frozen_at, zone=zone_of(customer)))
    if not (sees_approvals and _lifting(customer)):
        return [frozen]
    link = cells.row_link("approvals_approvalrequest", "apr", _lifting(customer))
    return [frozen, Fact("Its lifting waits", link)]


def _masked(read: Callable[[], str], mask: Callable[[str], str]) -> SafeString:
    try:
        return cells.text(mask(read()))
    # The key is away or another one: the page stands, and says what it cannot show.
    except (InvalidTag, LookupError):
        return cells.state("unreadable", tone="warn")


def _balances(page: queries.CustomerPage, *, is_linked: bool) -> Table:
    url = "admin:ledger_ledgeraccount_change"
    return Table(
        "Balances",
        ("Account", ">Available", ">Held", ">Posted"),
        [
            [
                cells.link(
                    reverse(url, args=[encode_id("la", one.account_id)]), _short_code(one.code)
                )
                if is_linked
                else cells.text(_short_code(one.code)),
                cells.amount(one.available, one.currency),
                cells.amount(one.pending_out, one.currency),
                cells.amount(one.posted, one.currency),
            ]
            for one in page.balances
        ],
        empty="This customer has no account in the books yet.",
        note="One consistent read: posted less held is available.",
    )


def _short_code(code: str) -> str:
    return ":".join(part for part in code.split(":") if not part.startswith("cus_"))


def _holds(
    page: queries.CustomerPage, *, zone: str, show: Callable[[str], SafeString], is_linked: bool
) -> Table:
    return Table(
        "Held",
        ("Hold", "Reserved for", "Since", ">Amount"),
        [
            [
                cells.row_link("ledger_hold", "ho", hold.id)
                if is_linked
                else cells.short_id("ho", hold.id),
                _held_for(hold.reference or "", show=show),
                cells.instant(hold.created_at, zone=zone),
                cells.amount(hold.remaining_minor, hold.currency),
            ]
            for hold in page.holds
        ],
        note=_more(page.holds, "first"),
    )


def _held_for(reference: str, *, show: Callable[[str], SafeString]) -> SafeString:
    """Show what a hold is for: of `payout:po_…:hold` the payout, which leads to its page."""
    payout = next((part for part in reference.split(":") if part.startswith("po_")), "")
    return show(payout) if payout else cells.cut(reference, head=14)


def _payouts(page: queries.CustomerPage, *, zone: str) -> Table:
    url = "admin:payouts_payout_change"
    return Table(
        "Payouts",
        ("Payout", "State", "To", "Asked for", ">Amount"),
        [
            [
                cells.short_id("po", one.id, url=reverse(url, args=[encode_id("po", one.id)])),
                cells.state(one.state),
                cells.masked_iban(
                    one.destination_version.iban_tail, country=one.destination_version.country
                ),
                cells.instant(one.requested_at, zone=zone),
                cells.amount(one.amount_minor, one.currency),
            ]
            for one in page.payouts
        ],
        empty="This customer has not asked for a payout.",
        note=_more(page.payouts),
    )


def _payments(page: queries.CustomerPage, *, zone: str) -> Table:
    url = "admin:payments_payment_change"
    return Table(
        "Payments in",
        ("Payment", "State", "Reference", "From", "Received", ">Amount"),
        [
            [
                cells.short_id("pay", one.id, url=reverse(url, args=[encode_id("pay", one.id)])),
                cells.state(one.state),
                cells.code(one.virtual_reference.reference if one.virtual_reference else ""),
                cells.masked_iban(one.sender_tail) if one.sender_tail else cells.NONE,
                cells.instant(one.received_at, zone=zone),
                cells.amount(one.amount_minor, one.currency),
            ]
            for one in page.payments
        ],
        empty="No money came in for this customer.",
        note=_more(page.payments),
    )


def _destinations(page: queries.CustomerPage, *, zone: str) -> Table:
    url = "admin:payouts_destination_change"
    return Table(
        "Destinations",
        ("Destination", "Account", "State", "Usable from"),
        [
            [
                cells.short_id("dst", one.id, url=reverse(url, args=[encode_id("dst", one.id)])),
                cells.masked_iban(version.iban_tail, country=version.country),
                cells.state(one.state),
                cells.instant(version.usable_from, zone=zone),
            ]
            for one, version in page.destinations
        ],
        empty="This customer has no account to be paid out to.",
        note=_more(page.destinations),
    )


def _more(rows: Sequence[object], which: str = "newest") -> str:
    return f"The {which} {ROWS_SHOWN}." if len(rows) >= ROWS_SHOWN else ""
