"""
Who may do what: the table of the back office, once, as Python.

Staff hold roles; a role gives capabilities; a person with several roles has the sum. What is not in
this table is denied. Whether two people are needed is a rule of each operation; this table says
who may ask, who may decide, and what must be proved first. A row is here once something asks for
it, which a test looks at: the table says what people can do, and nothing that they will.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a member of staff is here for."""

    SUPPORT_READONLY = "support_readonly"
    SUPPORT = "support"
    SUPPORT_LEAD = "support_lead"
    FINANCE_MAKER = "finance_maker"
    FINANCE_APPROVER = "finance_approver"
    RISK_ANALYST = "risk_analyst"
    RISK_MANAGER = "risk_manager"
    COMPLIANCE = "compliance"
    AUDITOR = "auditor"
    ADMIN = "admin"


SR, S, SL = Role.SUPPORT_READONLY, Role.SUPPORT, Role.SUPPORT_LEAD
FM, FA = Role.FINANCE_MAKER, Role.FINANCE_APPROVER
RA, RM = Role.RISK_ANALYST, Role.RISK_MANAGER
CO, AU, AD = Role.COMPLIANCE, Role.AUDITOR, Role.ADMIN

EVERYBODY_BUT_ADMIN: Final = (SR, S, SL, FM, FA, RA, RM, CO, AU)
WORKERS: Final = (S, SL, FM, FA, RA, RM, CO)


@dataclass(frozen=True, slots=True)
class Capability:
    """
    One row of the table.

    `full` does it alone, or decides others' requests where `two_people`; `asks` may only ask, and
    someone in `full` decides. `reauthentication` wants a code at most five minutes old;
    `second_factor` wants a verified device in the session.
    """

    name: str
    title: str
    full: frozenset[Role]
    asks: frozenset[Role] = frozenset()
    two_people: bool = False
    reauthentication: bool = False
    second_factor: bool = True

    @property
    def holders(self) -> frozenset[Role]:
        """Who may start it: alone, or by asking."""
        return self.full | self.asks


def _row(
    name: str,
    title: str,
    full: Iterable[Role],
    asks: Iterable[Role] = (),
    *,
    two_people: bool = False,
    reauthentication: bool = False,
    second_factor: bool = True,
) -> Capability:
    return Capability(
        name, title, frozenset(full), frozenset(asks), two_people, reauthentication, second_factor
    )


_ROWS: Final = (
    # Seeing. Only the first of all is open without a second factor.
    *(
        _row(name, title, EVERYBODY_BUT_ADMIN, second_factor=False)
        for name, title in (
            ("accounts.view_customer", "see customers"),
            ("payments.view_payment", "see payments"),
            ("payouts.view_payout", "see payouts"),
            ("webhooks.view_delivery", "see webhook endpoints, deliveries and providers' events"),
        )
    ),
    _row(
        "ledger.view_ledger", "see accounts, entries, trial balance", (SL, FM, FA, RA, RM, CO, AU)
    ),
    _row("ledger.view_period", "see accounting periods", (SL, FM, FA, RA, RM, CO, AU)),
    _row("banking.view_statement", "see statements and bank lines", (SL, FM, FA, RA, RM, CO, AU)),
    _row("risk.view_decision", "see limits and decisions", (RA, RM, CO, AU)),
    # Working with clients.
    _row("accounts.freeze_customer", "freeze a customer", WORKERS),
    _row("payouts.freeze_destination", "freeze a destination", WORKERS),
    _row("webhooks.pause_endpoint", "pause an endpoint", WORKERS),
    _row("accounts.revoke_api_key", "revoke an API key", WORKERS),
    _row("accounts.unfreeze_customer", "lift a freeze", (RM, CO), (SL, RA), two_people=True),
    _row("risk.lower_limit", "lower a limit", (S, SL, RA, RM, CO)),
    # Money out.
    _row("payouts.cancel_payout", "cancel a payout", (SL, FM, FA, RM, CO)),
    _row("payouts.request_payout", "create a payout for a customer", (FA,), (FM,)),
    _row(
        "payouts.approve_payout",
        "approve payouts",
        (FA,),
        two_people=True,
        reauthentication=True,
    ),
    _row(
        "payouts.release_batch",
        "release batches",
        (FA,),
        two_people=True,
        reauthentication=True,
    ),
    _row(
        "payouts.release_risk_hold", "release what risk holds", (RA, RM, CO), reauthentication=True
    ),
    _row("payouts.freeze_batch", "freeze a batch", (FM, FA), reauthentication=True),
    _row("payouts.export_batch", "export a batch", (FM, FA), reauthentication=True),
    _row("payouts.mark_batch_sent", "mark a batch as sent", (FM, FA), reauthentication=True),
    _row(
        "payouts.void_batch",
        "void a batch that has no file yet",
        (FA,),
        (FM,),
        two_people=True,
        reauthentication=True,
    ),
    # Bank and books.
    _row("banking.import_statement", "import statements and reports", (FM, FA)),
    _row(
        "reconciliation.match_line_above_limit",
        "accept an opening balance",
        (FA,),
        (FM,),
        two_people=True,
    ),
    *(
        _row(name, title, (FA,), (FM,), two_people=True, reauthentication=True)
        for name, title in (
            ("ledger.adjust", "adjust the ledger"),
            ("ledger.reverse_entry", "reverse an entry"),
            ("ledger.close_period", "close a period"),
            ("ledger.reopen_period", "re-open a period"),
        )
    ),
    _row("settlements.change_price_plan", "set prices", (FA,), (FM,), two_people=True),
    # Running the house.
    _row("webhooks.replay_delivery", "replay webhooks", (S, SL, FM)),
    _row("webhooks.link_event", "say what a provider's event is about", (FM, FA)),
    _row("webhooks.edit_endpoint", "edit endpoints", (SL,), reauthentication=True),
    _row("accounts.edit_contact", "edit whom a client has us tell", (SL,), reauthentication=True),
    _row("core.requeue_work", "requeue stuck work", (FM, FA, RM)),
    _row(
        "approvals.change_policy",
        "approval policies",
        (FA,),
        (FM,),
        two_people=True,
        reauthentication=True,
    ),
    *(
        _row(name, title, (FA,), (SL,), two_people=True, reauthentication=True)
        for name, title in (
            ("accounts.create_api_key", "create API keys"),
            ("accounts.rotate_api_key", "rotate API keys"),
        )
    ),
    _row(
        "core.export",
        "take a file out of the house",
        (SL, FM, FA, RM, CO, AU),
        reauthentication=True,
    ),
    _row("core.view_audit", "read the audit trail", (CO, AU, AD)),
    # Staff. Nobody touches a role alone, nor their own.
    _row("accounts.manage_staff", "staff accounts and sessions", (AD,)),
    _row("accounts.grant_role", "roles", (AD,), two_people=True, reauthentication=True),
    _row("accounts.revoke_role", "roles", (AD,), two_people=True, reauthentication=True),
)

CAPABILITIES: Final = {row.name: row for row in _ROWS}

# Roles that change nothing; an auditor may hold them besides.
_LOOKING: Final = frozenset({Role.SUPPORT_READONLY, Role.AUDITOR})


def is_allowed(capability: str, *, roles: Iterable[str], is_verified: bool) -> bool:
    """
    Say whether someone with these roles may start the act, alone or by asking for it.

    `is_verified` says that the second factor was shown, or is not required here. A capability
    outside the table is denied.
    """
    row = CAPABILITIES.get(capability)
    if row is None or (row.second_factor and not is_verified):
        return False
    return not row.holders.isdisjoint(roles)


def may_decide(capability: str, *, roles: Iterable[str], is_verified: bool) -> bool:
    """Say whether someone with these roles does it alone, or decides what others asked for."""
    return is_allowed(capability, roles=roles, is_verified=is_verified) and not (
        CAPABILITIES[capability].full.isdisjoint(roles)
    )


def capabilities_of(roles: Iterable[str]) -> frozenset[str]:
    """Return every capability that these roles give together: exactly their sum."""
    held = frozenset(roles)
    return frozenset(name for name, row in CAPABILITIES.items() if not row.holders.isdisjoint(held))


def is_refused_pair(one: str, other: str) -> bool:
    """
    Say whether no person may hold both roles.

    An admin, who makes people, holds nothing else; an auditor holds no role that acts. The trigger
    `staff_role_pair_is_allowed` holds the same rule in the database.
    """
    pair = {one, other}
    if len(pair) == 1:
        return False
    return Role.ADMIN in pair or (Role.AUDITOR in pair and not pair <= _LOOKING)
