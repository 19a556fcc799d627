"""The states of an approval request and of a policy, and the moves between them."""

from collections.abc import Mapping
from typing import Final

from django.db.models import TextChoices


class RequestState(TextChoices):
    """`stale`: its content changed, another request took over; `withdrawn`: the act went away."""

    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    STALE = "stale"
    WITHDRAWN = "withdrawn"


_R = RequestState
REQUEST_MOVES: Final[Mapping[RequestState, frozenset[RequestState]]] = {
    _R.OPEN: frozenset({_R.APPROVED, _R.DENIED, _R.EXPIRED, _R.STALE, _R.WITHDRAWN}),
    # Approved is not the end: an approver who leaves before the act happens takes it back.
    _R.APPROVED: frozenset({_R.STALE}),
    _R.DENIED: frozenset(),
    _R.EXPIRED: frozenset(),
    _R.STALE: frozenset(),
    _R.WITHDRAWN: frozenset(),
}


class Verdict(TextChoices):
    APPROVE = "approve"
    DENY = "deny"


class PolicyState(TextChoices):
    PROPOSED = "proposed"
    IN_FORCE = "in_force"
    REPLACED = "replaced"
    DENIED = "denied"


_P = PolicyState
POLICY_MOVES: Final[Mapping[PolicyState, frozenset[PolicyState]]] = {
    _P.PROPOSED: frozenset({_P.IN_FORCE, _P.DENIED}),
    _P.IN_FORCE: frozenset({_P.REPLACED}),
    _P.REPLACED: frozenset(),
    _P.DENIED: frozenset(),
}
