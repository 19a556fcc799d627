from django.urls import path

from apps.reconciliation.api import views

urlpatterns = [
    path("matches", views.MatchCollection.as_view()),
    path("matches/<str:match_id>", views.MatchResource.as_view()),
    path("breaks", views.BreakCollection.as_view()),
    path("breaks/<str:break_id>", views.BreakResource.as_view()),
]
