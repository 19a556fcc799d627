from django.urls import path

from apps.webhooks.api import delivery_views, event_views, views

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
    path("webhook_deliveries", delivery_views.DeliveryCollection.as_view()),
    path(DELIVERY, delivery_views.DeliveryResource.as_view()),
    path(f"{DELIVERY}/attempts", delivery_views.DeliveryAttempts.as_view()),
    path(f"{DELIVERY}/replay", delivery_views.DeliveryReplay.as_view()),
    path("events", event_views.EventCollection.as_view()),
    path("events/<str:event_id>", event_views.EventResource.as_view()),
]
