"""Where e-mail goes: a mail server, or files on a developer's machine."""

from pathlib import Path
from typing import Any

import environ

# What each answer of a mail server is waited for; the task that sends has a limit for them all.
TIMEOUT_SECONDS = 5


def make_mail(env: environ.Env, *, var: Path) -> dict[str, Any]:
    """Return the EMAIL_… settings: of EMAIL_URL where it is given, else of files in `var/mail`."""
    url = env.str("EMAIL_URL", default="")
    if not url:
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": str(var / "mail"),
        }
    return {**env.email_url_config(url), "EMAIL_TIMEOUT": TIMEOUT_SECONDS}
