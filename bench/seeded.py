"""
Databases with millions of postings, made by `manage.py seed_ledger` and kept between runs.

Filling one takes longer than measuring on it, so each is made once, kept as a template, and copied
for a benchmark that writes. It is made anew when the schema, the seeding or its contents change.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Final

import psycopg
from psycopg import sql

from bench import books as books_module
from bench import children, database
from bench._rounds import POSTINGS
from bench.books import Books

# What has to run over seeded books before they are like those of an organisation that grew: the
# chain and the totals of months, which reads lean on.
AFTER_SEEDING: Final[tuple[tuple[str, ...], ...]] = (("seal_ledger",),)
_SOURCES: Final = (
    "apps/*/migrations/*.py",
    "apps/*/sql/*.sql",
    "apps/ledger/operations/_seeding.py",
    "bench/_seeding.py",
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a seeded database: one organisation, or one and `others` small ones."""

    suffix: str
    postings: int
    accounts: int = books_module.ACCOUNTS
    others: int = 0
    others_postings: int = 0
    others_accounts: int = 50

    @property
    def about(self) -> str:
        total = self.postings + self.others * self.others_postings
        if not self.others:
            return f"{total:,} postings"
        part = 100 * self.postings / total
        return f"{self.others + 1} organisations, {part:.0f} % of {total:,} postings are one's"


SMALL: Final = Contents("small", 100_000)
LARGE: Final = Contents("large", POSTINGS)
# A cycle of eight postings brings money to one wallet: the small ones have one for each of theirs.
_OTHERS_POSTINGS_MIN: Final = 8 * 50
TENANTS: Final = Contents(
    "tenants",
    POSTINGS * 9 // 100,
    others=199,
    others_postings=max(_OTHERS_POSTINGS_MIN, 2 * (POSTINGS // 100 // 398)),
)


@contextmanager
def copy_of(contents: Contents) -> Iterator[str]:
    """Yield the name of a copy to write in; it is dropped afterwards."""
    template = made(contents)
    name = f"{template}_copy"
    database.remake(name, template=template)
    try:
        yield name
    finally:
        database.drop(name)


def made(contents: Contents) -> str:
    """Return the name of the database with these contents, making it now if there is none."""
    name = f"{database.NAME}_{contents.suffix}"
    fingerprint = _fingerprint(contents)
    if not database.exists(name) or _comment(name) != fingerprint:
        database.remake(name)
        database.migrate(name)
        children.ask("bench._seeding", asdict(contents), environment=database.environment(name))
        for command in AFTER_SEEDING:
            database.manage(name, *command)
        database.settle(name)
        _set_comment(name, fingerprint)
    return name


def books(name: str) -> list[Books]:
    """Return the organisations of a copy with a new API key each, the largest first."""
    return books_module.seeded_books(name)


def _fingerprint(contents: Contents) -> str:
    digest = sha256(json.dumps([asdict(contents), AFTER_SEEDING]).encode())
    for path in sorted(path for pattern in _SOURCES for path in database.ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _comment(name: str) -> str | None:
    with psycopg.connect(database.server()) as connection:
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            [name],
        ).fetchone()
    return row[0] if row else None


def _set_comment(name: str, comment: str) -> None:
    with psycopg.connect(database.server(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), comment)
        )
