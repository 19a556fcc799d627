from django.urls import path

from apps.banking.api import views

urlpatterns = [
    path("bank_files", views.BankFileCollection.as_view()),
    path("bank_files/<str:bank_file_id>", views.BankFileResource.as_view()),
    path("bank_accounts", views.BankAccountCollection.as_view()),
    path("bank_statements", views.BankStatementCollection.as_view()),
    path("bank_statements/<str:statement_id>", views.BankStatementResource.as_view()),
    path("bank_lines", views.BankLineCollection.as_view()),
    path("bank_lines/<str:line_id>", views.BankLineResource.as_view()),
]
