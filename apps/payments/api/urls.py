from django.urls import path

from apps.payments.api import views

urlpatterns = [
    path("virtual_references", views.VirtualReferenceCollection.as_view()),
    path("virtual_references/<str:reference_id>", views.VirtualReferenceResource.as_view()),
    path("payments", views.PaymentCollection.as_view()),
    path("payments/<str:payment_id>", views.PaymentResource.as_view()),
    path("unmatched_money", views.UnmatchedMoneyCollection.as_view()),
]
