from django.urls import path

from apps.ledger.api import fx, holds, monitors, reversals, views

urlpatterns = [
    path("ledger-accounts", views.LedgerAccountCollection.as_view()),
    path("ledger-accounts/<str:account_id>", views.LedgerAccountResource.as_view()),
    path("transfers", views.TransferCollection.as_view()),
    path("transfers/batch", views.TransferBatchCollection.as_view()),
    path("journal-entries", views.JournalEntryCollection.as_view()),
    path("journal-entries/reversals", reversals.EntryReversals.as_view()),
    path("journal-entries/<str:entry_id>/reversal", reversals.EntryReversal.as_view()),
    path("journal-entries/<str:entry_id>", views.JournalEntryResource.as_view()),
    path("holds", holds.HoldCollection.as_view()),
    path("holds/<str:hold_id>", holds.HoldResource.as_view()),
    path("holds/<str:hold_id>/capture", holds.HoldCapture.as_view()),
    path("holds/<str:hold_id>/void", holds.HoldVoid.as_view()),
    path("balance-monitors", monitors.BalanceMonitorCollection.as_view()),
    path("balance-monitors/<str:monitor_id>", monitors.BalanceMonitorResource.as_view()),
    path("fx-transfers", fx.FxTransferCollection.as_view()),
    path("fx-transfers/<str:fx_transfer_id>", fx.FxTransferResource.as_view()),
]
