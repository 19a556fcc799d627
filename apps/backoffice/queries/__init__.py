"""Reads of the site: over all apps, for one page each. Every count has a bound."""

from apps.backoffice.queries._corrections import (
    corrections,
    find_approval_of,
    find_corrections,
    find_waiting_reversal,
    get_correction,
    get_correction_for_update,
    sums_moved,
)
from apps.backoffice.queries._customers import (
    CustomerPage,
    customer_page,
    find_waiting_unfreeze,
)
from apps.backoffice.queries._figures import (
    DayOfMoney,
    count_money,
    count_payout_states,
    list_money,
    list_organization_ids,
    list_touched_days,
)
from apps.backoffice.queries._people import (
    ORGANIZATIONS_MAX,
    organization_ids_of,
    organizations_of,
    scope_of,
)
from apps.backoffice.queries._periods import find_waiting_period_request
from apps.backoffice.queries._stuck_work import find_work
from apps.backoffice.queries._tiles import (
    Glance,
    Tile,
    find_last_check,
    list_broken,
    list_tiles,
)
from apps.backoffice.queries._trial_balances import (
    month_trial_balances,
    prefix_of,
    subtotal,
    trial_balances,
)

__all__ = [
    "ORGANIZATIONS_MAX",
    "CustomerPage",
    "DayOfMoney",
    "Glance",
    "Tile",
    "corrections",
    "count_money",
    "count_payout_states",
    "customer_page",
    "find_approval_of",
    "find_corrections",
    "find_last_check",
    "find_waiting_period_request",
    "find_waiting_reversal",
    "find_waiting_unfreeze",
    "find_work",
    "get_correction",
    "get_correction_for_update",
    "list_broken",
    "list_money",
    "list_organization_ids",
    "list_tiles",
    "list_touched_days",
    "month_trial_balances",
    "organization_ids_of",
    "organizations_of",
    "prefix_of",
    "scope_of",
    "subtotal",
    "sums_moved",
    "trial_balances",
]
