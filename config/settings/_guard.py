"""What a process refuses to start with, and what production refuses besides."""

import re
from collections.abc import Mapping
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
SECRET_LENGTH_MIN = 50
_REDIS_PORT = 6379
SMTP_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
# Words that stand in a secret somebody typed and nobody drew.
_PLACEHOLDER = re.compile(r"(?i)insecure|development|change.?me|example|secret|password|default")


def refuse_unsafe(settings: Mapping[str, Any]) -> None:
    """Raise ImproperlyConfigured, naming every setting that a production process must not have."""
    faults = [
        *_secret_faults("SECRET_KEY", [settings["SECRET_KEY"], *settings["SECRET_KEY_FALLBACKS"]]),
        *_secret_faults("KASSA_PEPPERS", settings["KASSA_PEPPERS"]),
        *_fault_of("KASSA_KEY_FILE", settings["KASSA_KEY_FILE"], needed=True),
        *_fault_of("DEBUG", settings["DEBUG"], needed=False),
        *_fault_of("ALLOWED_HOSTS", settings["ALLOWED_HOSTS"], needed=True),
        *_fault_of("DATABASE_URL", settings["DATABASE_URL"], needed=True),
        *_fault_of("REDIS_URL", settings["REDIS_URL"], needed=True),
        *_cache_faults(settings),
        *_fault_of(
            "CELERY_TASK_ALWAYS_EAGER", settings.get("CELERY_TASK_ALWAYS_EAGER"), needed=False
        ),
        *_fault_of("KASSA_FAILPOINTS", settings["KASSA_FAILPOINTS"], needed=False),
        *_fault_of("WEBHOOK_ALLOW_NETWORKS", settings["WEBHOOK_ALLOW_NETWORKS"], needed=False),
        *_mail_faults(settings),
        *_fault_of("WEBHOOK_EGRESS_PROXY", settings["WEBHOOK_EGRESS_PROXY"], needed=True),
    ]
    if any("*" in host for host in settings["ALLOWED_HOSTS"]):
        faults.append("ALLOWED_HOSTS has a wildcard")
    if faults:
        raise ImproperlyConfigured("Production refuses to start: " + "; ".join(faults) + ".")


def at_least(least: int, name: str, value: int) -> int:
    """Return a setting's value, or raise ImproperlyConfigured, naming it, if it is too small."""
    if value < least:
        msg = f"{name} is {value}; it must be {least} or more."
        raise ImproperlyConfigured(msg)
    return value


def _secret_faults(name: str, values: list[str]) -> list[str]:
    if not values or not values[0]:
        return [f"{name} is missing"]
    faults = []
    for value in values:
        if len(value) < SECRET_LENGTH_MIN:
            faults.append(f"{name} has a value shorter than {SECRET_LENGTH_MIN} characters")
        if _PLACEHOLDER.search(value):
            faults.append(f"{name} looks typed, not drawn")
    return faults


def _cache_faults(settings: Mapping[str, Any]) -> list[str]:
    # The broker may forget nothing, so a cache that is full of its own would fill it too.
    if _server(settings["CACHE_URL"]) == _server(settings["REDIS_URL"]):
        return ["CACHE_URL is on the broker's server"]
    return []


def _server(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    # Without a host it is a socket, which is its path.
    return parts.hostname or parts.path, parts.port or _REDIS_PORT


def _mail_faults(settings: Mapping[str, Any]) -> list[str]:
    sender = settings["DEFAULT_FROM_EMAIL"]
    faults = _fault_of("DEFAULT_FROM_EMAIL", sender, needed=True)
    if sender and "@" not in parseaddr(sender)[1]:
        faults.append("DEFAULT_FROM_EMAIL is no address")
    if not settings["EMAIL_URL"]:
        return [*faults, "EMAIL_URL is missing"]
    if settings["EMAIL_BACKEND"] != SMTP_BACKEND:
        faults.append("EMAIL_URL names no mail server")
    is_private = settings.get("EMAIL_USE_TLS") or settings.get("EMAIL_USE_SSL")
    if settings["EMAIL_HOST_PASSWORD"] and not is_private:
        faults.append("EMAIL_URL sends a password in the clear")
    return faults


def _fault_of(name: str, value: object, *, needed: bool) -> list[str]:
    if bool(value) == needed:
        return []
    return [f"{name} is missing" if needed else f"{name} is not for production"]
