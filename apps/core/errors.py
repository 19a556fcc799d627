"""
Refusals, which are anticipated and shown, and faults, which are ours and page.

A code is declared once, in an app's ``errors.py``, and never renamed. ``apps.core.api.problems`` is
the only module that turns one into HTTP.
"""

from typing import ClassVar


class Refusal(Exception):
    """An anticipated no. ``details`` hold ids and numbers: no names, bank details or secrets."""

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInput(Refusal):
    """400: the request is malformed; ``errors`` in the details names where. Never stored."""

    code = "invalid_request"


class NotFound(Refusal):
    """404: no such thing, or not yours."""

    code = "not_found"


class NotPermitted(Refusal):
    """403: known, and not allowed."""

    code = "not_permitted"


class StateConflict(Refusal):
    """409: not in this state."""

    code = "state_conflict"


class NotYet(StateConflict):
    """409: not in this state, and soon it will be. Never stored: the key may try again."""


class RuleViolation(Refusal):
    """422: well formed, and a rule says no."""

    code = "rule_violation"


class TooOften(Refusal):
    """429: allowed, but not so often. ``retry_after`` in the details: seconds. Never stored."""

    code = "too_often"


class OutsideCallError(Exception):
    """Raised by adapters; the operation that records it makes it a state."""


class Declined(OutsideCallError):
    """Final: the other side said no. ``code`` is theirs, as sent."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Unavailable(OutsideCallError):
    """Nothing was sent; it may be tried again."""


class OutcomeUnknown(OutsideCallError):
    """It may have happened; it is never tried again blindly."""


class InvariantBroken(Exception):
    """Our fault. Never caught; pages."""


def refusal_classes() -> dict[str, type[Refusal]]:
    """Return every declared refusal by its code, the most general class of a code winning."""
    found: dict[str, type[Refusal]] = {}
    todo: list[type[Refusal]] = [Refusal]
    while todo:
        kind = todo.pop(0)
        found.setdefault(kind.code, kind)
        todo.extend(kind.__subclasses__())
    return found
