from django.urls import path

from apps.accounts.api import views

urlpatterns = [
    path("me", views.Me.as_view()),
    path("customers", views.CustomerCollection.as_view()),
    path("customers/<str:customer_id>", views.CustomerResource.as_view()),
    path("customers/<str:customer_id>/freeze", views.CustomerFreeze.as_view()),
]
