"""django-hordak's own project, as its documentation sets one up: no more than it needs."""

import os
from typing import Any

import environ

SECRET_KEY = "bench"  # noqa: S105  (nothing is signed with it)
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "mptt",
    "djmoney",
    "hordak",
]
DATABASES: dict[str, dict[str, Any]] = {
    "default": environ.Env().db_url_config(os.environ["DATABASE_URL"])
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_CURRENCY = "EUR"
CURRENCIES = ["EUR"]
