from django.urls import path

from apps.payouts.api import views

urlpatterns = [
    path("destinations", views.DestinationCollection.as_view()),
    path("destinations/<str:destination_id>", views.DestinationResource.as_view()),
    path("destinations/<str:destination_id>/disable", views.DestinationDisable.as_view()),
    path("payouts", views.PayoutCollection.as_view()),
    path("payouts/<str:payout_id>", views.PayoutResource.as_view()),
    path("payouts/<str:payout_id>/cancel", views.PayoutCancel.as_view()),
]
