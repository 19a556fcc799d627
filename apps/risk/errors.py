"""Every refusal of risk, with its public code."""

from apps.core.errors import InvalidInput, RuleViolation


class LimitExceeded(RuleViolation):
    """A hard limit does not cover this; `limit` explains, `decision` names what was stored."""

    code = "limit_exceeded"


class LimitRaiseNeedsTwo(RuleViolation):
    """Lowering a limit takes one person; raising or removing it takes two."""

    code = "limit_raise_needs_two"


class LimitRefused(InvalidInput):
    """The limit's own terms are malformed: an unknown zone, a cap below zero."""

    code = "limit_refused"
