"""The launcher, on a Postgres and a Valkey of its own below a folder closed to others."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from dev import _process, postgres, services, valkey
from tests.support import ROOT

START = """
import pathlib, sys
from dev import services
services.start(pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        patch.delenv("REDIS_URL", raising=False)
        yield closed / "var"
        services.reset(closed / "var")


@pytest.fixture
def record(var: Path) -> services.Record:
    return services.start(var)


def _ask(record: services.Record, query: str) -> object:
    with psycopg.connect(record["postgres"]["url"]) as connection:
        cursor = connection.execute(query)
        return cursor.fetchone()[0] if cursor.description else None


def _server_user(record: services.Record) -> int:
    return Path(record["postgres"]["data"]).stat().st_uid


class TestStart:
    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("data_checksums", "on"),
            ("deadlock_timeout", "300ms"),
            ("jit", "off"),
            ("log_parameter_max_length", "0"),
            ("listen_addresses", ""),
        ],
    )
    def test_sets(self, record, setting, value):
        assert _ask(record, f"SHOW {setting}") == value

    @pytest.mark.parametrize(
        ("setting", "value"), [("maxmemory-policy", "noeviction"), ("appendonly", "yes")]
    )
    def test_sets_of_the_broker(self, record, setting, value):
        with redis.Redis.from_url(record["valkey"]["url"], decode_responses=True) as client:
            assert client.config_get(setting) == {setting: value}

    def test_keeps_the_server_and_the_data_when_started_again(self, var, record):
        _ask(record, "CREATE TABLE kept AS SELECT 1 AS number")
        before = postgres.find_pid(record["postgres"]), valkey.find_pid(record["valkey"])

        again = services.start(var)

        assert again == record
        after = postgres.find_pid(again["postgres"]), valkey.find_pid(again["valkey"])
        assert after == before
        services.stop(var)
        assert _ask(services.start(var), "SELECT number FROM kept") == 1

    def test_opens_no_folder_above_to_others(self, var, record):
        assert var.parent.stat().st_mode & 0o777 == 0o700
        assert Path(record["postgres"]["data"]).stat().st_mode & 0o777 == 0o700
        assert Path(record["postgres"]["socket_directory"]).stat().st_mode & 0o777 == 0o700

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as another user")
    def test_runs_postgres_as_somebody_other_than_root(self, record):
        pid = postgres.find_pid(record["postgres"])

        assert Path(f"/proc/{pid}").stat().st_uid == _server_user(record) != 0

    def test_is_one_server_when_two_start_at_once(self, var, record):
        services.stop(var)
        starts = [
            subprocess.Popen([sys.executable, "-c", START, str(var)], cwd=ROOT) for _ in range(2)
        ]

        assert [process.wait(timeout=60) for process in starts] == [0, 0]

        data = Path(record["valkey"]["data"])
        assert _process.list_servers(data) == [valkey.find_pid(record["valkey"])]
        assert _ask(record, "SELECT 1") == 1

    def test_begins_anew_when_var_was_removed(self, tmp_path):
        record = services.start(tmp_path / "var")
        _ask(record, "CREATE TABLE former AS SELECT 1 AS number")
        services.stop(tmp_path / "var")
        shutil.rmtree(tmp_path / "var")

        try:
            assert _ask(services.start(tmp_path / "var"), "SELECT to_regclass('former')") is None
        finally:
            services.reset(tmp_path / "var")

    def test_makes_again_what_was_cut_short(self, tmp_path):
        remains = tmp_path / "var" / "postgres.making"
        remains.mkdir(parents=True)
        (remains / "half").touch()

        try:
            assert _ask(services.start(tmp_path / "var"), "SELECT 1") == 1
        finally:
            services.reset(tmp_path / "var")

    def test_leaves_alone_what_an_address_is_given_for(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere.invalid/kassa")
        monkeypatch.setenv("REDIS_URL", "redis://elsewhere.invalid/0")

        assert services.start(tmp_path / "var") == {}


class TestHealing:
    def test_starts_over_a_killed_server_and_loses_no_commit(self, var, record):
        _ask(record, "CREATE TABLE survivor AS SELECT 7 AS number")
        os.kill(postgres.find_pid(record["postgres"]), signal.SIGKILL)
        os.kill(valkey.find_pid(record["valkey"]), signal.SIGKILL)

        again = services.start(var)

        assert _ask(again, "SELECT number FROM survivor") == 7

    def test_starts_over_a_lock_whose_number_somebody_else_bears(self, var, record):
        services.stop(var)
        with _sleeping_as(_server_user(record)) as stranger:
            lock = Path(record["postgres"]["data"]) / "postmaster.pid"
            lock.write_text(f"{stranger.pid}\n{lock.parent}\n1\n5432\n/nowhere\n\n 1 1\nready\n")

            again = services.start(var)

            assert _ask(again, "SELECT 1") == 1
            assert stranger.poll() is None

    def test_takes_another_port_when_a_stranger_has_ours(self, var, record):
        services.stop(var)
        with socket.create_server(("127.0.0.1", int(record["valkey"]["port"]))):
            again = services.start(var)

        assert again["valkey"]["port"] != record["valkey"]["port"]
        assert again["valkey"]["password"] == record["valkey"]["password"]


class TestStop:
    def test_ends_nobody_else_whose_number_is_in_the_file(self, var, record):
        services.stop(var)
        with _sleeping_as(os.geteuid()) as stranger:
            (Path(record["valkey"]["data"]) / "valkey.pid").write_text(f"{stranger.pid}\n")

            assert services.stop(var) == []
            assert stranger.poll() is None

    def test_says_what_it_ended(self, var):
        services.start(var)

        assert services.stop(var) == ["postgres", "valkey"]
        assert services.stop(var) == []


@contextlib.contextmanager
def _sleeping_as(user: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["/bin/sleep", "60"], cwd="/", user=user if os.geteuid() == 0 else None
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
