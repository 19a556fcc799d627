"""A benchmark begins on a server that writes its log over old files (ADR 0183)."""

import psycopg
import pytest
from psycopg import conninfo

from bench import database
from dev import postgres
from tests.own_postgres import own_postgres

FILES = 3


@pytest.fixture
def owners(tmp_path, monkeypatch):
    """A new server, which the benchmarks take for theirs; its owner's session."""
    monkeypatch.setattr(database, "_LOG_FILES", FILES)
    monkeypatch.delenv("KASSA_BENCH_SERVER", raising=False)
    with own_postgres(tmp_path) as record:
        ours = conninfo.make_conninfo(record["url"].replace("postgres://", "postgresql://", 1))
        monkeypatch.setattr(database, "server", lambda: ours)
        address = conninfo.make_conninfo(ours, user="postgres", dbname="postgres")
        with psycopg.connect(address, autocommit=True) as connection:
            yield connection


def test_are_made_before_it_and_written_over_by_it(owners, capsys):
    database.make_log_files()
    assert database._count_log_files(owners) >= FILES
    [file] = owners.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchall()

    # What is there is enough.
    database.make_log_files()
    assert owners.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchall() == [
        file
    ]

    with database.new_log_files_told():
        fill(owners, FILES)
    assert capsys.readouterr().err == ""


def test_new_ones_are_told(owners, capsys):
    made = database._count_log_files(owners) + 2

    with database.new_log_files_told():
        fill(owners, made)

    assert "the server made 32 MiB of its log anew" in capsys.readouterr().err


def test_of_somebody_elses_server_are_left_alone(owners, monkeypatch):
    monkeypatch.setenv("KASSA_BENCH_SERVER", database.server())
    [place] = owners.execute("SELECT pg_current_wal_lsn()").fetchall()

    database.make_log_files()

    assert owners.execute("SELECT pg_current_wal_lsn()").fetchall() == [place]


def test_are_never_removed_here():
    assert postgres.SETTINGS["min_wal_size"] == postgres.SETTINGS["max_wal_size"]


def fill(owners, files):
    """Write so many files of the log, as somebody's COMMITs would."""
    for _ in range(files):
        owners.execute("SELECT pg_logical_emit_message(false, 'test', '')")
        owners.execute("SELECT pg_switch_wal()")
    # A file is made when something is written into it, as a COMMIT is.
    owners.execute("SELECT pg_logical_emit_message(true, 'test', '')")
    owners.execute("SELECT pg_stat_force_next_flush()")
