"""The connections, by what kind of process makes them."""

import json
from pathlib import Path
from typing import Any

import environ

from config.connections import PooledConnection, WebConnection

# Statement, lock, idle-in-transaction and transaction timeouts, in milliseconds. In production
# roles carry them (a pooler loses what a session sets); the embedded server has one role for all.
TIMEOUTS = {
    "web": (5_000, 2_000, 10_000, 15_000),
    "worker": (60_000, 5_000, 30_000, 90_000),
    "threads": (60_000, 5_000, 30_000, 90_000),
    "beat": (5_000, 2_000, 10_000, 15_000),
    "supervisor": (5_000, 2_000, 10_000, 15_000),
    "exporter": (5_000, 2_000, 10_000, 15_000),
    # Somebody at a terminal: a check takes as long as it takes, but waits for no lock for long.
    "command": (0, 10_000, 60_000, 0),
}

POOL: dict[str, Any] = {
    "connection_class": PooledConnection,
    "min_size": 2,
    "max_size": 8,
    "timeout": 3,
    "max_waiting": 32,
    "max_lifetime": 1800,
    "max_idle": 300,
}
# Prefork workers have no pool, since Celery closes it in the children: one kept connection each.
POOLS = {
    "web": POOL | {"connection_class": WebConnection},
    "threads": POOL | {"min_size": 1},
}

# What is prepared is planned for whoever it will be asked for, from its first run on. Made for the
# values of one, as Postgres plans the first five, it goes by what ANALYZE knew of that one: nothing
# of an organization that came since (ADR 0160).
PLANS = "-c plan_cache_mode=force_generic_plan"

# Shown by libpq as the path it cannot find, so the message says what to do.
NOT_STARTED = "postgres://kassa@/kassa?host=/run-make-services-first"


def make_database(env: environ.Env, *, role: str, var: Path) -> dict[str, Any]:
    """Return Django's settings for the one database, pooled and limited as the role needs."""
    given = env.str("DATABASE_URL", default="")
    database: dict[str, Any] = env.db_url_config(
        given or _read_local(var, "postgres", "url") or NOT_STARTED
    )
    options = database.setdefault("OPTIONS", {})
    options.setdefault("connect_timeout", 2)
    # A server that vanished, with its machine or its network, says nothing: whoever waits for it
    # would for hours, and hold up those behind (ADR 0140). Longer than any transaction may take.
    options.setdefault("tcp_user_timeout", 20_000)
    options.setdefault("keepalives_idle", 5)
    options.setdefault("keepalives_interval", 5)
    options.setdefault("keepalives_count", 3)
    options.setdefault("application_name", f"kassa-{role}")
    # Django's cursor never prepares; `apps.core.statements` does, each of its own. Behind
    # a pooler that shares connections nothing is: there, set DATABASE_PREPARES to false.
    prepares = env.bool("DATABASE_PREPARES", default=True)
    options["prepare_threshold"] = 1 if prepares else None
    # What is said here takes the place of PGOPTIONS.
    said = options.get("options") or env.str("PGOPTIONS", default="")
    session = said if given else make_timeouts(role)
    if prepares:
        session = f"{PLANS} {session}".rstrip()
    if session:
        options["options"] = session
    if role in POOLS:
        options["pool"] = POOLS[role]
    return database | {
        "ATOMIC_REQUESTS": False,
        "CONN_MAX_AGE": 60 if role in {"worker", "beat"} else 0,
        "CONN_HEALTH_CHECKS": True,
    }


def make_timeouts(role: str) -> str:
    """Return the role's timeouts as options of a connection."""
    statement, lock, idle, transaction = TIMEOUTS[role]
    return (
        f"-c statement_timeout={statement} -c lock_timeout={lock}"
        f" -c idle_in_transaction_session_timeout={idle} -c transaction_timeout={transaction}"
    )


def find_redis(env: environ.Env, *, var: Path) -> tuple[str, str]:
    """Return the addresses of broker and cache."""
    broker = env.str("REDIS_URL", default="")
    if broker:
        return broker, env.str("CACHE_URL", default=broker)
    # Nothing listens on port 1: a process that needs Redis says that it cannot connect.
    return (
        _read_local(var, "valkey", "url") or "redis://127.0.0.1:1/0",
        _read_local(var, "valkey", "cache_url") or "redis://127.0.0.1:1/1",
    )


def _read_local(var: Path, service: str, key: str) -> str | None:
    """Return what `python -m dev.services` wrote down at its last start, if it ever ran."""
    try:
        address: str = json.loads((var / "services.json").read_text())[service][key]
    except (OSError, ValueError, KeyError):
        return None
    return address
