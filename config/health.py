"""What a balancer and a supervisor ask."""

import threading
from typing import Final

import psycopg
from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from redis.exceptions import RedisError

from config.reading import read_only

_SECONDS_MAX = 1
# Once they were there: to look reads them all, and takes a connection of the pool.
_migrated: Final = threading.Event()


@read_only
def livez(_request: HttpRequest) -> JsonResponse:
    """Say that the process answers. It touches nothing: a database away is no reason to restart."""
    return JsonResponse({"status": "alive"})


@read_only
def readyz(_request: HttpRequest) -> JsonResponse:
    """Say whether to send requests here: Postgres answers, and has this code's migrations."""
    checks = {"postgres": _check_postgres()}
    checks["migrations"] = _check_migrations() if checks["postgres"] == "ok" else "unknown"
    is_ready = all(check == "ok" for check in checks.values())
    # Redis is a hint and a cache: it is told, and nothing depends on it.
    body = {"status": "ready" if is_ready else "not_ready", **checks, "redis": _check_redis()}
    return JsonResponse(body, status=200 if is_ready else 503)


def _check_postgres() -> str:
    # A connection of its own: a pool in full use is busy, not broken.
    parameters = connection.get_connection_params() | {"connect_timeout": _SECONDS_MAX}
    for name in ("pool", "context", "cursor_factory", "prepare_threshold"):
        parameters.pop(name, None)
    try:
        with psycopg.connect(**parameters) as fresh:
            fresh.execute("SELECT 1")
    except psycopg.Error:
        return "unreachable"
    return "ok"


def _check_migrations() -> str:
    if not _migrated.is_set():
        try:
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return "pending"
        except Error:
            # No connection came free.
            return "unknown"
        _migrated.set()
    return "ok"


def _check_redis() -> str:
    try:
        cache.get("readyz")
    except (RedisError, OSError):
        return "unreachable"
    return "ok" if settings.CACHE_URL else "none"
