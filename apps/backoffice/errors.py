"""Every refusal of the back office, with its public code."""

from apps.core.errors import StateConflict


class PeriodAskedForAlready(StateConflict):
    """A request about this month waits for a second person; `approval` names it."""

    code = "period_asked_for_already"
