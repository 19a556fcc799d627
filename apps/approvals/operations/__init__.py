"""Writes of approvals: asking, deciding, expiring, and changing who is asked."""

from apps.approvals.operations.decisions import decide_approval
from apps.approvals.operations.policies import (
    POLICY_ACT,
    propose_policy,
    register_policy_act,
)
from apps.approvals.operations.requests import (
    APPROVAL_LIFE,
    expire_approval,
    lock_waiting,
    request_approval,
    withdraw_approval,
)

__all__ = [
    "APPROVAL_LIFE",
    "POLICY_ACT",
    "decide_approval",
    "expire_approval",
    "lock_waiting",
    "propose_policy",
    "register_policy_act",
    "request_approval",
    "withdraw_approval",
]
