"""Whether a process is ready says whether requests should be sent to it, however busy it is."""

import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from config import health

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _started():
    """As a process is that was not asked yet, and so is the next test's."""
    health._migrated.clear()
    yield
    health._migrated.clear()


@pytest.fixture
def busy(monkeypatch):
    """Have no connection of the pool come free; call it when that begins."""

    def look(_connection):
        raise OperationalError("couldn't get a connection after 3.00 sec")

    return lambda: monkeypatch.setattr(health, "MigrationExecutor", look)


def ask():
    response = Client().get("/readyz")
    return response.status_code, response.json()


def test_a_process_with_its_migrations_is_ready():
    assert ask() == (
        200,
        {"status": "ready", "postgres": "ok", "migrations": "ok", "redis": "ok"},
    )


def test_one_whose_migrations_are_not_there_is_not_until_they_are():
    [newest] = MigrationLoader(connection).graph.leaf_nodes("core")
    MigrationRecorder(connection).record_unapplied(*newest)
    status, told = ask()
    assert (status, told["status"], told["migrations"]) == (503, "not_ready", "pending")

    MigrationRecorder(connection).record_applied(*newest)
    assert ask()[0] == 200


def test_a_busy_one_stays_ready(busy):
    ask()
    busy()

    assert ask()[0] == 200


def test_one_that_was_busy_from_the_beginning_says_that_it_does_not_know(busy):
    busy()

    status, told = ask()
    assert (status, told["postgres"], told["migrations"]) == (503, "ok", "unknown")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_neither_address_takes_what_does_not_read(path):
    # As strangers come: without the token that a form of ours would bring.
    client = Client(enforce_csrf_checks=True)

    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        answer = client.generic(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "method_not_allowed"
        assert answer.json()["request_id"] == answer.headers["Request-Id"]
    assert client.head(path).status_code == 200
