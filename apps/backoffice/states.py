"""The states of a correction that somebody asked for, and the moves between them."""

from collections.abc import Mapping
from typing import Final

from django.db.models import TextChoices


class CorrectionState(TextChoices):
    """`dropped`: denied, over its time, or taken back; nothing was posted."""

    WAITING = "waiting"
    POSTED = "posted"
    DROPPED = "dropped"


_C = CorrectionState
CORRECTION_MOVES: Final[Mapping[CorrectionState, frozenset[CorrectionState]]] = {
    _C.WAITING: frozenset({_C.POSTED, _C.DROPPED}),
    _C.POSTED: frozenset(),
    _C.DROPPED: frozenset(),
}
