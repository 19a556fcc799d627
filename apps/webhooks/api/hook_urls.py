from django.urls import path, re_path

from apps.core.api.views import route_not_found
from apps.webhooks.api import hooks

urlpatterns = [
    path("<slug:provider>/<str:connection_id>", hooks.take_event),
    re_path(r"", route_not_found),
]
