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

from apps.core import attempts, counters
from apps.core.api import rates
from config.memory import settle
from tests.core import weeks_of_tests
from tests.support import BROWSERS, empty_tables, examples, renew_connection, stop_cleaning
from tests.template import ensure_template

ROOT = Path(__file__).resolve().parent.parent
BANK_FILES = ROOT.parent / "shared" / "data" / "bank-files"

# A slow machine is no counter-example.
hypothesis_settings.register_profile("kassa", deadline=None, max_examples=examples(100))
hypothesis_settings.load_profile("kassa")

# Nor is a Redis that is slow there: what counts in it would go on by itself, from 0.
rates._REDIS_SECONDS_MAX = attempts._REDIS_SECONDS_MAX = 30

NO_BROWSER = "no Chromium here (apt-get install chromium)"
NO_BANK_FILES = f"no real bank files in {os.path.relpath(BANK_FILES, ROOT)}"


# --- Database ---------------------------------------------------------------------------------


def _clean_up(_case: TransactionTestCase) -> None:
    # What a failed test left open holds its rows.
    renew_connection()
    empty_tables()


# Django's own clean-up after a transactional test is a TRUNCATE, which the guards refuse.
TransactionTestCase._fixture_teardown = _clean_up
# And it closes the connection, which `renew_connection` makes as good as new.
TransactionTestCase._should_reload_connections = lambda _case: False


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, django_db_blocker: Any
) -> None:
    """Cut off what an interrupted run left connected, and have the schema copied, not made."""
    name = connection.settings_dict["TEST"]["NAME"]
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        _disconnect(cursor, name)
        connection.settings_dict["TEST"]["TEMPLATE"] = ensure_template(cursor)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Cut off workers and threads that outlive the last test, so that the database can go."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        stop_cleaning()
        _disconnect(cursor, connection.settings_dict["NAME"])


def _disconnect(cursor: Any, name: str) -> None:
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid() AND usename = current_user",
        [name],
    )


@pytest.fixture(scope="module")
def weeks_restored(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Leave the weeks of events as the migration does, after a module that makes some."""
    yield
    with django_db_blocker.unblock():
        weeks_of_tests.restore_weeks()


# --- Counters ---------------------------------------------------------------------------------


@pytest.fixture
def metrics_folder(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Count into a folder of the test's own, which no process has used yet."""
    settings.KASSA_METRICS_DIR = str(tmp_path / "metrics")
    monkeypatch.setattr(counters, "_declared", dict(counters._declared))
    monkeypatch.setattr(counters, "_store", counters._Store())
    yield tmp_path / "metrics"
    counters._store.abandon()


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
        pytest.fail(f"{NO_BROWSER}, and CI has to have one")
    pytest.skip(NO_BROWSER)


def pytest_collection_finish() -> None:
    """Have no later garbage collection walk through thousands of tests that stay to the end."""
    settle()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run on CI that left a browser test out: there the browser is part of the set-up."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") == "true" and any("browser" in report.keywords for report in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in a frame what was not tried: a skip among a thousand dots is not seen."""
    skipped = terminalreporter.stats.get("skipped", [])
    lines = []
    for marker, why in (("browser", NO_BROWSER), ("bank_files", NO_BANK_FILES)):
        if count := sum(marker in report.keywords for report in skipped):
            lines.append(f"{count} {marker} tests were SKIPPED: {why}")
    if lines:
        width = max(map(len, lines))
        edge = "+" + "-" * (width + 2) + "+"
        framed = [edge, *(f"| {line.ljust(width)} |" for line in lines), edge]
        terminalreporter.write_line("\n" + "\n".join(framed), yellow=True)
