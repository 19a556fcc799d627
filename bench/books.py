"""Organisations to measure on: accounts that hold more than a run can move, and an API key."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final
from uuid import UUID

from apps.core.ids import encode_id
from bench import children, database

ACCOUNTS: Final = 10_000


@dataclass(frozen=True)
class Books:
    """One organisation: its id, the ledger accounts that API transfers reach, and its API key."""

    organization_id: UUID
    accounts: tuple[UUID, ...]
    token: str

    @cached_property
    def printed(self) -> list[str]:
        return [encode_id("la", id_) for id_ in self.accounts]


@cache
def plain_books() -> Books:
    """Make one organisation with 10,000 funded accounts in the run's database, once a run."""
    return open_books(database.NAME, accounts=ACCOUNTS)


def open_books(name: str, *, accounts: int) -> Books:
    """Make one organisation with so many funded accounts in a database."""
    [books] = _in_database(name, {"open": accounts})
    return books


def seeded_books(name: str) -> list[Books]:
    """Give each organisation of a seeded database an API key; return them, largest first."""
    return _in_database(name, {"open": 0})


def _in_database(name: str, order: dict[str, object]) -> list[Books]:
    rows = children.ask("bench._books", order, environment=database.environment(name))
    return [
        Books(UUID(row["organization"]), tuple(map(UUID, row["accounts"])), row["token"])
        for row in rows
    ]
