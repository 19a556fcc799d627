"""The database, the data and the browser that tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import settings as hypothesis_settings

from tests.support import BROWSERS, empty_tables

ROOT = Path(__file__).resolve().parent.parent
BANK_FILES = ROOT.parent / "shared" / "data" / "bank-files"

# A slow machine is no counter-example.
hypothesis_settings.register_profile("kassa", deadline=None)
hypothesis_settings.load_profile("kassa")

NO_BROWSER = "no Chromium here"
NO_BANK_FILES = "no bank files beside the repository"


# --- Database ---------------------------------------------------------------------------------


# Django's own clean-up after a transactional test is a TRUNCATE, which the guards refuse.
TransactionTestCase._fixture_teardown = lambda _case: empty_tables()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, django_db_blocker: Any
) -> None:
    """Cut off what an interrupted run left connected: the database could not be made anew."""
    name = connection.settings_dict["TEST"]["NAME"]
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        _disconnect(cursor, name)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Cut off workers and threads that outlive the last test, so that the database can go."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        _disconnect(cursor, connection.settings_dict["NAME"])


def _disconnect(cursor: Any, name: str) -> None:
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid() AND usename = current_user",
        [name],
    )


# --- What may be absent -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def bank_files() -> Path:
    """Return the folder of the real bank files, or skip: they are not part of the repository."""
    if not BANK_FILES.is_dir():
        pytest.skip(NO_BANK_FILES)
    return BANK_FILES


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium; without one skip, except on CI, which must have it."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{NO_BROWSER}, and CI has to have one: apt-get install chromium")
    pytest.skip(NO_BROWSER)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in a frame what was not tried: a skip among a thousand dots is not seen."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    lines = [
        f"{sum(reason in text for text in reasons)} tests were skipped: {reason}. {remedy}"
        for reason, remedy in (
            (NO_BROWSER, "`apt-get install chromium`, then again."),
            (NO_BANK_FILES, f"They are looked for in {os.path.relpath(BANK_FILES, ROOT)}."),
        )
        if any(reason in text for text in reasons)
    ]
    if lines:
        width = max(map(len, lines)) + 4
        framed = [f"| {line.ljust(width - 4)} |" for line in lines]
        terminalreporter.write_line(
            "\n".join(["", "+" + "-" * (width - 2) + "+", *framed, "+" + "-" * (width - 2) + "+"]),
            yellow=True,
        )
