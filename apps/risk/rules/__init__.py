"""Pure decisions of risk: no Django, database, clock or network."""

from apps.risk.rules.facts import COUNTED, FACT_MOVES, FactState, Outcome
from apps.risk.rules.limits import (
    LimitCheck,
    LimitTerms,
    Usage,
    Window,
    WindowKind,
    binding,
    check,
    explain,
    window_at,
)

__all__ = [
    "COUNTED",
    "FACT_MOVES",
    "FactState",
    "LimitCheck",
    "LimitTerms",
    "Outcome",
    "Usage",
    "Window",
    "WindowKind",
    "binding",
    "check",
    "explain",
    "window_at",
]
