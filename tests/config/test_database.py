"""How a process asks for its connections."""

import environ
import pytest
from django.core import checks
from django.db import connection

from config.settings import _database

URL = "postgres://kassa@db.example.com/kassa"


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Return the options of a connection that a process makes in such an environment."""

    def make(**variables):
        for name in ("DATABASE_URL", "DATABASE_PREPARES", "PGOPTIONS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        database = _database.make_database(environ.Env(), role="worker", var=tmp_path)
        return database["OPTIONS"]

    return make


class TestPlans:
    """What is prepared is planned for anybody, from its first run on (ADR 0160)."""

    @pytest.mark.django_db
    def test_are_made_for_anybody(self):
        with connection.cursor() as cursor:
            cursor.execute("SHOW plan_cache_mode")
            assert cursor.fetchall() == [("force_generic_plan",)]

    def test_are_asked_for_beside_the_limits_of_the_role(self, made):
        assert made()["options"] == f"{_database.PLANS} {_database.make_timeouts('worker')}"
        assert made(DATABASE_URL=URL)["options"] == _database.PLANS

    def test_are_asked_for_beside_what_the_environment_says(self, made):
        said = "-c default_transaction_read_only=on"

        assert made(DATABASE_URL=URL, PGOPTIONS=said)["options"] == f"{_database.PLANS} {said}"
        asked = made(DATABASE_URL=f"{URL}?options=-c%20jit%3Doff", PGOPTIONS=said)
        assert asked["options"] == f"{_database.PLANS} -c jit=off"

    def test_are_the_role_s_where_sessions_are_shared(self, made):
        options = made(DATABASE_URL=URL, DATABASE_PREPARES="false")

        assert options["prepare_threshold"] is None
        assert "options" not in options

    @pytest.mark.django_db
    @pytest.mark.parametrize("mode", ["force_generic_plan", "auto"])
    def test_are_looked_for_by_the_check_of_a_deployment(self, mode):
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")

        told = checks.run_checks(
            tags=[checks.Tags.database], include_deployment_checks=True, databases=["default"]
        )

        assert [one.id for one in told if one.id == "kassa.E018"] == ["kassa.E018"] * (
            mode == "auto"
        )
