"""
The durable work row: the row is the queue; Celery and Redis only say "look now" (events.md, 2).

claim (lease, commit) -> work with no transaction open -> record in a second operation, where the
lease is compared. A worker that dies leaves a row that falls due again when its lease ends.
"""

from apps.core.work._leases import (
    FAILED_TOGETHER,
    LAPSES_MAX,
    claim_due,
    give_back,
    lock_all_leased,
    lock_leased,
)
from apps.core.work._outcomes import (
    ATTEMPTS_MAX,
    mark_all_done,
    mark_all_released,
    mark_all_waiting,
    mark_continued,
    mark_done,
    mark_failed,
    mark_released,
    mark_retry,
    mark_undeclared,
    mark_waiting,
)
from apps.core.work._registry import (
    HARD_SECONDS,
    TAKEN_OVER_SECONDS_MAX,
    Kind,
    due_kinds,
    find_kind,
    kinds,
    lease_of,
    nudge,
    register_kind,
    sweep,
)
from apps.core.work._rows import (
    OPEN,
    SET_ASIDE,
    STORAGE,
    WorkRow,
    WorkState,
    has_organization,
    work_indexes,
)

__all__ = [
    "ATTEMPTS_MAX",
    "FAILED_TOGETHER",
    "HARD_SECONDS",
    "LAPSES_MAX",
    "OPEN",
    "SET_ASIDE",
    "STORAGE",
    "TAKEN_OVER_SECONDS_MAX",
    "Kind",
    "WorkRow",
    "WorkState",
    "claim_due",
    "due_kinds",
    "find_kind",
    "give_back",
    "has_organization",
    "kinds",
    "lease_of",
    "lock_all_leased",
    "lock_leased",
    "mark_all_done",
    "mark_all_released",
    "mark_all_waiting",
    "mark_continued",
    "mark_done",
    "mark_failed",
    "mark_released",
    "mark_retry",
    "mark_undeclared",
    "mark_waiting",
    "nudge",
    "register_kind",
    "sweep",
    "work_indexes",
]
