"""What the HTTP server loads."""

import os
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

from config.errors import start_reporting
from config.memory import settle

if TYPE_CHECKING:
    from config.express import Application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")


def make_application() -> "Application":
    """Return Django with the express lane before it."""
    django = get_wsgi_application()
    from config.express import ROUTES, ExpressLane  # noqa: PLC0415  (views need Django set up)

    start_reporting(dsn=settings.SENTRY_DSN, environment=settings.SENTRY_ENVIRONMENT)
    application: Application = ExpressLane(django, ROUTES)
    if settings.SENTRY_DSN:
        # Keeps the traces of two requests apart, as it does by itself round Django's handler.
        application = SentryWsgiMiddleware(application)
    return application


application = make_application()
settle()
