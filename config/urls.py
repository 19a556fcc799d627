"""Composition: which app answers where."""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from config import health

API_APPS = (
    "accounts",
    "ledger",
    "webhooks",
    "banking",
    "approvals",
    "risk",
    "payments",
    "payouts",
    "reconciliation",
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("admin/", admin.site.urls),
    *(
        path("v1/", include(f"apps.{app}.api.urls"))
        for app in API_APPS
        if find_spec(f"apps.{app}.api") and find_spec(f"apps.{app}.api.urls")
    ),
    # Last: what none of them answers is a problem document too.
    path("v1/", include("apps.core.api.urls")),
]
