"""Composition: which app answers where."""

from django.contrib import admin
from django.urls import include, path

from config import docs, health

urlpatterns = [
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("docs", docs.api, name="docs"),
    path("docs/errors", docs.errors, name="docs-errors"),
    path("docs/openapi.yaml", docs.document, name="docs-openapi"),
    path("admin/", admin.site.urls),
    path("hooks/", include("apps.webhooks.api.hook_urls")),
    path("v1/", include("apps.accounts.api.urls")),
    path("v1/", include("apps.ledger.api.urls")),
    path("v1/", include("apps.webhooks.api.urls")),
    path("v1/", include("apps.banking.api.urls")),
    path("v1/", include("apps.payments.api.urls")),
    path("v1/", include("apps.payouts.api.urls")),
    path("v1/", include("apps.reconciliation.api.urls")),
    # Last: what none of them answers is a problem document too.
    path("v1/", include("apps.core.api.urls")),
]

handler400 = "config.middleware.answer_malformed"
