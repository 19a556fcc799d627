"""Celery's settings, each with its reason; ADR 0006 says what all of them are for."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from celery.schedules import schedule
from kombu import Exchange, Queue

QUEUES: Final = ("money", "settlement", "events", "risk", "default", "webhooks", "webhooks_slow")

# The shortest of any process on a broker wins, so all have this one; no task takes half as long.
VISIBILITY_TIMEOUT: Final = 300

# A message that nobody took for so long has nothing left to say. Short of that it is not dropped:
# how old it is tells the clock of whoever takes it, and those of workers may be hours apart.
MESSAGE_SECONDS_MAX: Final = 86_400

# The first pattern that fits decides; work of a kind with a queue of its own is sent there by name.
ROUTES: Final = {
    "core.relay": {"queue": "events"},
    "core.consume": {"queue": "events"},
    "core.*": {"queue": "default"},
    "ledger.*": {"queue": "money"},
    "payments.*": {"queue": "money"},
    "payouts.*": {"queue": "money"},
    "settlements.*": {"queue": "settlement"},
    "risk.*": {"queue": "risk"},
    "webhooks.send_slow*": {"queue": "webhooks_slow"},
    "webhooks.send*": {"queue": "webhooks"},
    "webhooks.*": {"queue": "events"},
    "*": {"queue": "default"},
}

_TRANSPORT_WORKER: Final[dict[str, object]] = {
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "retry_on_timeout": True,
}
# A request that nudges must not wait for a dead Redis: the sweep finds its row all the same. One
# try is all there is time for: each retry, of the client or of the publisher, doubles the wait.
_TRANSPORT_WEB: Final[dict[str, object]] = {
    "socket_connect_timeout": 0.3,
    "socket_timeout": 0.3,
    "retry_on_timeout": False,
}
_TRANSPORT: Final[dict[str, object]] = {
    "visibility_timeout": VISIBILITY_TIMEOUT,
    # By default what a dead worker held is looked for once in some hundred seconds.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    # A connection whose other end is gone without a word is noticed: by default it is waited on.
    "socket_keepalive": True,
    "health_check_interval": 10,
}


def _steady_now() -> datetime:
    """
    Return a time that nobody sets: it goes on from when the machine was started.

    A beat whose clock is set back would else say nothing until that is where it was.
    """
    return datetime.fromtimestamp(time.monotonic(), UTC)


def make_celery(*, broker_url: str, role: str, key_prefix: str = "") -> dict[str, Any]:
    """Return the CELERY_… settings of a process of this role; several may share one broker."""
    is_worker = role in {"worker", "threads", "beat"}
    transport: dict[str, object] = _TRANSPORT | (_TRANSPORT_WORKER if is_worker else _TRANSPORT_WEB)
    if key_prefix:
        transport["global_keyprefix"] = key_prefix
    settings: dict[str, object] = {
        "broker_url": broker_url,
        "broker_transport": "config.broker:Transport",
        "broker_transport_options": transport,
        "result_backend_transport_options": {"visibility_timeout": VISIBILITY_TIMEOUT},
        "visibility_timeout": VISIBILITY_TIMEOUT,
        "broker_pool_limit": 10 if is_worker else 4,
        "broker_pool_acquire_timeout": None if is_worker else 0.3,
        # However long the broker is away: by default a worker gives up after a hundred tries.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A broker that answers, and refuses: it is full, may not write to its disk, or follows
        # another one by now. Else a worker ends at the first such answer.
        "broker_channel_error_retry": True,
        # A child that is killed gives its message back; a task that failed does not, since what is
        # to be tried again is a row, and says when.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        # Outcomes are rows; without a result there is no backend that could be full or away.
        "task_ignore_result": True,
        # No pickle: whoever can write to the broker would run code here.
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Of tasks that hold no row. Those that do have limits of their kind, under its lease.
        "task_soft_time_limit": 90,
        "task_time_limit": 120,
        # A queue that is misspelled fails at once: it would be made, and nobody would read it.
        "task_create_missing_queues": False,
        # Each with its own exchange and key: by default they share one, and all get every message.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_default_queue": "default",
        "task_routes": ROUTES,
        "task_publish_retry_policy": {
            "max_retries": 2 if is_worker else 0,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.3,
        },
        # A worker that dies holds no other's messages hostage.
        "worker_prefetch_multiplier": 1,
        # The broker gives the message to another one: no old copy goes on beside that.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        # Told to end, a worker lets what it is at finish for so long, and gives back the rest.
        "worker_soft_shutdown_timeout": 30,
        "worker_enable_soft_shutdown_on_idle": True,
        # What leaks is bounded: a child is replaced after so many tasks, or beyond 400 MB.
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 400_000,
        # A child that starts slowly on a busy machine is not taken for dead: by default after 4 s.
        "worker_proc_alive_timeout": 30,
        # Our own logging stays (config/logging.py), and nobody listens to Celery's own events or
        # sends it commands: rows and heartbeats say what is going on.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        # Beat never sleeps for longer than its shortest entry; by default it may for five minutes.
        "beat_max_loop_interval": 1,
        # It remembers nothing: to look once too often costs nothing.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_schedule": {
            "core.sweep": {
                "task": "core.sweep",
                "schedule": schedule(1.0, nowfun=_steady_now),
                "options": {"expires": MESSAGE_SECONDS_MAX},
            },
            "core.plan_jobs": {
                "task": "core.plan_jobs",
                "schedule": schedule(15.0, nowfun=_steady_now),
                "options": {"expires": MESSAGE_SECONDS_MAX},
            },
        },
    }
    return {f"CELERY_{name.upper()}": value for name, value in settings.items()}
