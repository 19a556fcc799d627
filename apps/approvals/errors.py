"""Every refusal of approvals, with its public code."""

from apps.core.errors import NotFound, NotPermitted, RuleViolation, StateConflict


class ApprovalNotFound(NotFound):
    code = "approval_not_found"


class CannotApproveOwn(NotPermitted):
    """Nobody decides what they asked for, whatever roles they hold."""

    code = "cannot_approve_own"


class MayNotDecide(NotPermitted):
    """The person lacks every role that this request still asks for."""

    code = "may_not_decide"


class AlreadyDecided(StateConflict):
    """The person gave another verdict before; `verdict` says which. A decision is not undone."""

    code = "already_decided"


class ApprovalClosed(StateConflict):
    """The request was decided, withdrawn or replaced; `state` says which."""

    code = "approval_closed"


class ApprovalExpired(StateConflict):
    """Nobody decided in time; what it was about is undone."""

    code = "approval_expired"


class ApprovalStale(StateConflict):
    """What people agreed to has changed: nothing is done; a new request is open, or is needed."""

    code = "approval_stale"


class PolicyRefused(RuleViolation):
    """The policy contradicts itself; `fault` says how."""

    code = "approval_policy_refused"


class UnknownAct(RuleViolation):
    """No app registered an act of this name."""

    code = "unknown_act"
