"""What the HTTP server loads: Django and the express lane, behind one front."""

import os
from typing import TYPE_CHECKING, cast

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

from config.connections import hand_out_the_last
from config.errors import start_reporting
from config.memory import settle

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper

    from config.front import Application, Front

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")


def make_front() -> "Front":
    """Return the application, Django set up and its views loaded."""
    django = get_wsgi_application()
    from config.express import ExpressLane  # noqa: PLC0415  (views need Django set up)
    from config.front import Front  # noqa: PLC0415

    hand_out_the_last(cast("DatabaseWrapper", connection).pool)
    start_reporting(dsn=settings.SENTRY_DSN, environment=settings.SENTRY_ENVIRONMENT)
    application: Application = django
    if settings.SENTRY_DSN:
        # Keeps the traces of two requests apart, as it does by itself round Django's handler.
        application = SentryWsgiMiddleware(application)
    return Front(
        application,
        ExpressLane(),
        threads=settings.WEB_THREADS,
        lane_threads=settings.WEB_LANE_THREADS,
    )


application = make_front()
settle()
