"""Writes of risk: admitting acts under limits, following them, setting the limits."""

from apps.risk.operations.admission import Admission, admit, record_fact_states
from apps.risk.operations.limits import LimitChange, set_limit

__all__ = [
    "Admission",
    "LimitChange",
    "admit",
    "record_fact_states",
    "set_limit",
]
