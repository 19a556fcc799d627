from django.urls import path

from apps.webhooks.api import event_views, views

ENDPOINT = "webhook_endpoints/<str:endpoint_id>"
DELIVERY = "webhook_deliveries/<str:delivery_id>"

urlpatterns = [
    path("webhook_endpoints", views.EndpointCollection.as_view()),
    path(ENDPOINT, views.EndpointResource.as_view()),
    path(f"{ENDPOINT}/rotate_secret", views.EndpointRotateSecret.as_view()),
    path(f"{ENDPOINT}/ping", views.EndpointPing.as_view()),
    path(f"{ENDPOINT}/disable", views.EndpointDisable.as_view()),
    path(f"{ENDPOINT}/enable", views.EndpointEnable.as_view()),
    path(f"{ENDPOINT}/replay", views.EndpointReplay.as_view()),
    path("webhook_deliveries", views.DeliveryCollection.as_view()),
    path(DELIVERY, views.DeliveryResource.as_view()),
    path(f"{DELIVERY}/attempts", views.DeliveryAttempts.as_view()),
    path(f"{DELIVERY}/replay", views.DeliveryReplay.as_view()),
    path("events", event_views.EventCollection.as_view()),
    path("events/<str:event_id>", event_views.EventResource.as_view()),
]
