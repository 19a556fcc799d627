"""What the HTTP server loads."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config.errors import start_reporting

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

application = get_wsgi_application()
start_reporting(dsn=settings.SENTRY_DSN, environment=settings.SENTRY_ENVIRONMENT)
