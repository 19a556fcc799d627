from django.urls import path

from apps.ledger.api import balances, fx, monitors, periods, statements, trial_balance, views

urlpatterns = [
    path("ledger-accounts", views.LedgerAccountCollection.as_view()),
    path("ledger-accounts/<str:account_id>", views.LedgerAccountResource.as_view()),
    path("ledger-accounts/<str:account_id>/statement", statements.StatementResource.as_view()),
    path("balances", balances.BalanceCollection.as_view()),
    path("trial-balance", trial_balance.TrialBalanceResource.as_view()),
    path("balance-sheet", trial_balance.BalanceSheetResource.as_view()),
    path("periods", periods.PeriodCollection.as_view()),
    path("periods/<str:month>", periods.PeriodResource.as_view()),
    path("periods/<str:month>/close", periods.PeriodClose.as_view()),
    path("periods/<str:month>/reopen", periods.PeriodReopen.as_view()),
    path("transfers", views.TransferCollection.as_view()),
    path("transfers/batch", views.TransferBatchCollection.as_view()),
    path("journal-entries", views.JournalEntryCollection.as_view()),
    path("journal-entries/<str:entry_id>", views.JournalEntryResource.as_view()),
    path("balance-monitors", monitors.BalanceMonitorCollection.as_view()),
    path("balance-monitors/<str:monitor_id>", monitors.BalanceMonitorResource.as_view()),
    path("fx-transfers", fx.FxTransferCollection.as_view()),
    path("fx-transfers/<str:fx_transfer_id>", fx.FxTransferResource.as_view()),
]
