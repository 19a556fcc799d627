import os
import secrets
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.settings._guard import refuse_unsafe
from tests.support import ROOT


def _safe_settings(**changes: object) -> dict[str, object]:
    return {
        "SECRET_KEY": secrets.token_hex(40),
        "SECRET_KEY_FALLBACKS": [],
        "KASSA_PEPPERS": [secrets.token_hex(40)],
        "KASSA_KEY_FILE": "/run/secrets/ring",
        "DEBUG": False,
        "ALLOWED_HOSTS": ["api.example.com"],
        "DATABASE_URL": "postgres://db/kassa",
        "REDIS_URL": "redis://broker/0",
        "CACHE_URL": "redis://cache/0",
        "KASSA_FAILPOINTS": "",
        "WEBHOOK_ALLOW_NETWORKS": [],
        "EMAIL_URL": "smtp+tls://kassa:drawn@mail.example.com:587",
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST_PASSWORD": "drawn",
        "EMAIL_USE_TLS": True,
        "DEFAULT_FROM_EMAIL": "Kassa <no-reply@example.com>",
        "WEBHOOK_EGRESS_PROXY": "10.20.0.4:3128",
        **changes,
    }


def test_starts_on_drawn_secrets_and_given_addresses():
    refuse_unsafe(_safe_settings())
    # Without a proxy, but not by oversight.
    refuse_unsafe(_safe_settings(WEBHOOK_EGRESS_PROXY="none"))
    # Two servers of one machine.
    refuse_unsafe(_safe_settings(CACHE_URL="redis://broker:6380/0"))
    refuse_unsafe(_safe_settings(REDIS_URL="unix:///run/broker", CACHE_URL="unix:///run/cache"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is missing"),
        ({"SECRET_KEY": "f3b1" * 10}, "SECRET_KEY has a value shorter than 50 characters"),
        ({"SECRET_KEY": "django-insecure-" + "f3b1" * 20}, "SECRET_KEY looks typed"),
        ({"SECRET_KEY_FALLBACKS": ["changeme" * 10]}, "SECRET_KEY looks typed"),
        ({"KASSA_PEPPERS": []}, "KASSA_PEPPERS is missing"),
        ({"KASSA_KEY_FILE": ""}, "KASSA_KEY_FILE is missing"),
        ({"DEBUG": True}, "DEBUG is not for production"),
        ({"ALLOWED_HOSTS": ["*"]}, "ALLOWED_HOSTS has a wildcard"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is missing"),
        ({"CACHE_URL": "redis://broker/0"}, "CACHE_URL is on the broker's server"),
        ({"CACHE_URL": "rediss://:drawn@broker:6379/1"}, "CACHE_URL is on the broker's server"),
        ({"CELERY_TASK_ALWAYS_EAGER": True}, "CELERY_TASK_ALWAYS_EAGER is not for production"),
        ({"KASSA_FAILPOINTS": "ledger.post"}, "KASSA_FAILPOINTS is not for production"),
        ({"WEBHOOK_ALLOW_NETWORKS": ["127.0.0.0/8"]}, "WEBHOOK_ALLOW_NETWORKS is not for"),
        ({"EMAIL_URL": ""}, "EMAIL_URL is missing"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "no mail server"),
        ({"EMAIL_USE_TLS": False}, "EMAIL_URL sends a password in the clear"),
        ({"DEFAULT_FROM_EMAIL": ""}, "DEFAULT_FROM_EMAIL is missing"),
        ({"DEFAULT_FROM_EMAIL": "Kassa"}, "DEFAULT_FROM_EMAIL is no address"),
        ({"WEBHOOK_EGRESS_PROXY": ""}, "WEBHOOK_EGRESS_PROXY is missing"),
    ],
)
def test_refuses_and_says_why(changes, said):
    with pytest.raises(ImproperlyConfigured, match="Production refuses to start") as caught:
        refuse_unsafe(_safe_settings(**changes))

    assert said in str(caught.value)


@pytest.mark.parametrize(("days", "starts"), [("29", False), ("-1", False), ("30", True)])
def test_no_process_starts_that_keeps_events_for_less_than_a_month(days, starts):
    ended = subprocess.run(
        [sys.executable, "-c", "import config.settings.base"],
        cwd=ROOT,
        env=os.environ | {"EVENT_RETENTION_DAYS": days},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode == 0) is starts
    assert starts or f"EVENT_RETENTION_DAYS is {days}; it must be 30 or more." in ended.stderr
