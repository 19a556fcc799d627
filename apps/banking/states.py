"""The states of bank files, statements and lines, and the moves between them."""

from collections.abc import Mapping
from typing import Final

from django.db import models


class Channel(models.TextChoices):
    """How files reach the bank and come from it."""

    MANUAL = "manual"
    SANDBOX = "sandbox"


class Direction(models.TextChoices):
    IN = "in"
    OUT = "out"


class FileState(models.TextChoices):
    RECEIVED = "received"
    IMPORTED = "imported"
    REFUSED = "refused"
    # None of its statements is of an account we know; run again when one is added.
    UNKNOWN_ACCOUNT = "unknown_account"
    # One of ours, on its way out.
    STORED = "stored"


class StatementState(models.TextChoices):
    IMPORTED = "imported"
    # All of it was known before: nothing was added.
    KNOWN = "known"
    UNKNOWN_ACCOUNT = "unknown_account"
    # A page whose other pages have not come.
    WAITING = "waiting"


class Chain(models.TextChoices):
    """How a statement stands to those before it."""

    FIRST = "first"
    FOLLOWS = "follows"
    OVERLAPS = "overlaps"
    # Something is missing before it: the account is incomplete until that comes.
    GAP = "gap"
    # Notifications, and what was not imported, have no place in the chain.
    NONE = "none"


class Source(models.TextChoices):
    STATEMENT = "statement"
    NOTIFICATION = "notification"


class LineState(models.TextChoices):
    NEW = "new"
    MATCHED = "matched"
    IN_SUSPENSE = "in_suspense"
    # Another line says the same, or it is not booked: it posts nothing.
    KNOWN = "known"


class AccountState(models.TextChoices):
    OPEN = "open"
    CLOSED = "closed"


FILE_MOVES: Final[Mapping[FileState, frozenset[FileState]]] = {
    FileState.RECEIVED: frozenset(
        {FileState.IMPORTED, FileState.REFUSED, FileState.UNKNOWN_ACCOUNT}
    ),
    FileState.UNKNOWN_ACCOUNT: frozenset({FileState.IMPORTED, FileState.REFUSED}),
}
STATEMENT_MOVES: Final[Mapping[StatementState, frozenset[StatementState]]] = {
    StatementState.UNKNOWN_ACCOUNT: frozenset(
        {StatementState.IMPORTED, StatementState.KNOWN, StatementState.WAITING}
    ),
}
LINE_MOVES: Final[Mapping[LineState, frozenset[LineState]]] = {
    LineState.NEW: frozenset({LineState.MATCHED, LineState.IN_SUSPENSE, LineState.KNOWN}),
    LineState.IN_SUSPENSE: frozenset({LineState.MATCHED}),
}
