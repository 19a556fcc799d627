"""The last route of the API: what no app answers is a problem document too."""

from django.urls import re_path

from apps.core.api.views import route_not_found

urlpatterns = [re_path(r"", route_not_found)]
