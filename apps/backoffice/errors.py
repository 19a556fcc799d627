"""Every refusal of the back office, with its public code."""

from apps.core.errors import NotFound, StateConflict


class PeriodAskedForAlready(StateConflict):
    """A request about this month waits for a second person; `approval` names it."""

    code = "period_asked_for_already"


class ReversalAskedForAlready(StateConflict):
    """A request to reverse this entry waits for a second person; `correction` names it."""

    code = "reversal_asked_for_already"


class UnfreezingAskedForAlready(StateConflict):
    """A request to lift this customer's freeze waits for a second person; `approval` names it."""

    code = "unfreezing_asked_for_already"


class CorrectionNotFound(NotFound):
    code = "correction_not_found"


class CorrectionClosed(StateConflict):
    """The correction was posted or dropped before; `state` says which."""

    code = "correction_closed"
