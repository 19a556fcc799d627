"""Check the production settings as a deployment would start with them, with throw-away secrets."""

import os
import secrets
import subprocess
import sys

THROW_AWAY = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "SECRET_KEY": secrets.token_hex(40),
    "KASSA_PEPPERS": secrets.token_hex(40),
    "KASSA_KEY_FILE": os.devnull,
    "ALLOWED_HOSTS": "kassa.invalid",
    "DATABASE_URL": "postgres://kassa_web@db.invalid/kassa?sslmode=verify-full",
    "REDIS_URL": "redis://broker.invalid/0",
    "CACHE_URL": "redis://cache.invalid/0",
    "EMAIL_URL": f"smtp+tls://kassa:{secrets.token_hex(16)}@mail.invalid:587",
    "DEFAULT_FROM_EMAIL": "Kassa <no-reply@kassa.invalid>",
    "WEBHOOK_EGRESS_PROXY": "egress.invalid:3128",
}
# What a developer has set for the local server would weaken what is checked here.
NOT_PASSED = ("KASSA_", "WEBHOOK_", "DEBUG", "SENTRY_")


def main() -> int:
    """Return the exit status of Django's deployment checks; a warning fails them."""
    passed = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED)}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(command, env=passed | THROW_AWAY, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
