from django.urls import path

from apps.ledger.api import fx, journal, monitors, transfer_reads, views

urlpatterns = [
    path("ledger-accounts", views.LedgerAccountCollection.as_view()),
    path("ledger-accounts/<str:account_id>", views.LedgerAccountResource.as_view()),
    path("transfers", views.TransferCollection.as_view()),
    path("transfers/batch", views.TransferBatchCollection.as_view()),
    path("transfers/<str:transfer_id>", transfer_reads.TransferResource.as_view()),
    path("journal-entries", journal.JournalEntryCollection.as_view()),
    path("journal-entries/<str:entry_id>", journal.JournalEntryResource.as_view()),
    path("postings", journal.PostingCollection.as_view()),
    path("balance-monitors", monitors.BalanceMonitorCollection.as_view()),
    path("balance-monitors/<str:monitor_id>", monitors.BalanceMonitorResource.as_view()),
    path("fx-transfers", fx.FxTransferCollection.as_view()),
    path("fx-transfers/<str:fx_transfer_id>", fx.FxTransferResource.as_view()),
]
