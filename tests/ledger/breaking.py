"""Statements that break each rule which Postgres keeps of the books, by the rule's name."""

# An id by which nothing is known.
NOBODY = "'00000000-0000-7000-8000-000000000000'::uuid"

# Whose primary key is more than an id.
COMPOSITE = {
    "ledger_chain_link", "ledger_entry_metadata", "ledger_monthly_total", "ledger_period_balance",
    "ledger_posting", "ledger_type_total",
}  # fmt: skip


def copy(table: str, where: str = "true", **changes: str) -> str:
    """Return the statement that writes one of the rows again with these columns changed, in SQL."""
    if table not in COMPOSITE:
        changes = {"id": "gen_random_uuid()"} | changes
    changed = ", ".join(f"'{name}', {value}" for name, value in changes.items())
    return (
        f"INSERT INTO {table} SELECT (jsonb_populate_record(one, jsonb_build_object({changed}))).*"
        f" FROM {table} AS one WHERE {where} LIMIT 1"
    )


def change(table: str, what: str) -> str:
    return f"UPDATE {table} SET {what}"


def becomes(table: str, columns: str, what: str) -> list[str]:
    """Return a statement for each of the columns, which then is what it was not."""
    return [change(table, f"{column} = {what.format(column)}") for column in columns.split()]


def goes(table: str) -> list[str]:
    return [f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"]


def changes(table: str) -> list[str]:
    return [change(table, "organization_id = organization_id"), *goes(table)]


OTHER_ID, OTHER_TIME = "gen_random_uuid()", "COALESCE({}, now()) - interval '1 day'"
OPEN = "status = 'open' AND reference IS NULL"
COUNTERS = ("posted_debits", "posted_credits", "pending_debits", "pending_credits", "version")

# By table, and by the name of what is broken: the statements that break it.
BROKEN: dict[str, dict[str, list[str]]] = {
    "ledger_account": {
        "ledger_account_code_is_a_path": [
            copy("ledger_account", code=f"'{code}'")
            for code in ("Wallets", "a::b", "a b", "a:", ":EUR", "a:EUR:b", "a:eU")
        ],
        "ledger_account_currency_is_a_code": [
            copy("ledger_account", code="'x'", currency=f"'{code}'") for code in ("eur", "E1", "")
        ],
        "ledger_account_type_is_known": [copy("ledger_account", code="'x'", type="'odd'")],
        "ledger_account_code_is_unique": [copy("ledger_account")],
        "ledger_accounts_stay": goes("ledger_account"),
        "ledger_account_is_what_it_was": [
            *becomes("ledger_account", "id organization_id", OTHER_ID),
            *becomes("ledger_account", "code currency", "'SEK'"),
            change("ledger_account", "type = 'asset' WHERE type = 'liability'"),
        ],
    },
    "ledger_balance": {
        "balance_counters_are_not_negative": [
            change("ledger_balance", f"{column} = -1, min_available_minor = NULL")
            for column in COUNTERS
        ],
        "balance_keeps_its_floor": [
            # Money posted, and money reserved; and where debits are the normal side.
            change("ledger_balance", "posted_debits = posted_credits + 1 WHERE id = %(ann)s"),
            change("ledger_balance", "pending_debits = posted_credits + 1 WHERE id = %(ann)s"),
            change("ledger_balance", "pending_credits = 1 WHERE id = %(owned)s"),
            # More than there is has to stay, on either side.
            change("ledger_balance", "min_available_minor = posted_credits + 1 WHERE id = %(ann)s"),
            change("ledger_balance", "min_available_minor = 1 WHERE id = %(owned)s"),
        ],
        "balance_status_is_known": [change("ledger_balance", "status = 'odd'")],
        "balances_stay": goes("ledger_balance"),
        "balance_is_of_its_account": [
            *becomes("ledger_balance", "id organization_id", OTHER_ID),
            change("ledger_balance", "currency = 'SEK'"),
            change("ledger_balance", "credit_normal = NOT credit_normal"),
        ],
        "balance_begins_with_its_account": [copy("ledger_balance", version="0")],
        "balance_is_empty_when_closed": [
            change("ledger_balance", "status = 'closed' WHERE id = %(ann)s"),
            change("ledger_balance", "status = 'closed', pending_debits = 1 WHERE version = 0"),
            change(
                "ledger_balance",
                "status = 'closed', pending_credits = 1, min_available_minor = NULL"
                " WHERE version = 0",
            ),
        ],
        "balance_version_moves_with_money": [
            change("ledger_balance", "version = version + 1"),
            change("ledger_balance", "posted_credits = posted_credits + 1 WHERE id = %(ann)s"),
            change(
                "ledger_balance",
                "version = version - 1, posted_credits = posted_credits + 1 WHERE id = %(ann)s",
            ),
        ],
    },
    "ledger_balance_monitor": {
        "balance_monitor_measure_is_known": [copy("ledger_balance_monitor", measure="'odd'")],
        "balance_monitor_direction_is_known": [copy("ledger_balance_monitor", direction="'odd'")],
        "balance_monitor_owns_its_account": [
            copy("ledger_balance_monitor", account_id="%(stranger)s::uuid")
        ],
        "balance_monitors_stay": goes("ledger_balance_monitor"),
        "balance_monitor_is_what_it_was": [
            *becomes("ledger_balance_monitor", "id organization_id account_id", OTHER_ID),
            change("ledger_balance_monitor", "measure = 'posted'"),
            change("ledger_balance_monitor", "direction = 'above'"),
            change("ledger_balance_monitor", "threshold_minor = 7"),
        ],
    },
    "ledger_chain_head": {"chain_has_one_head": [copy("ledger_chain_head")]},
    "ledger_chain_link": {
        "chain_starts_at_one": [copy("ledger_chain_link", position="0", entry_id=NOBODY)],
        # One place has one entry, which is no fork; one entry has one place.
        "ledger_chain_link_pkey": [copy("ledger_chain_link", entry_id=NOBODY)],
        "entry_is_sealed_once": [copy("ledger_chain_link", position="1000")],
        "chain_links_are_append_only": changes("ledger_chain_link"),
    },
    "ledger_entry_metadata": {
        "ledger_entry_metadata_pkey": [copy("ledger_entry_metadata", actor="'psql'")],
        "metadata_is_of_an_entry": [
            copy("ledger_entry_metadata", entry_id=NOBODY),
            copy("ledger_entry_metadata", entry_id="%(their_entry)s::uuid"),
        ],
        "entry_metadata_is_append_only": changes("ledger_entry_metadata"),
    },
    "ledger_fx_transfer": {
        "fx_transfer_moves_money": [
            copy("ledger_fx_transfer", reference="NULL", **{column: "0"})
            for column in ("sold_minor", "bought_minor", "rate")
        ],
        "fx_transfer_changes_currency": [
            copy("ledger_fx_transfer", reference="NULL", bought_currency="'EUR'")
        ],
        "fx_transfer_rounds_for_liquidity": [
            copy("ledger_fx_transfer", reference="NULL", remainder_minor=rest)
            for rest in ("-0.1", "1")
        ],
        "fx_transfer_owns_its_source": [
            copy("ledger_fx_transfer", reference="NULL", from_account_id="%(stranger)s::uuid")
        ],
        "fx_transfer_owns_its_target": [
            copy("ledger_fx_transfer", reference="NULL", to_account_id="%(stranger)s::uuid")
        ],
        "fx_transfer_reference_is_unique": [copy("ledger_fx_transfer")],
        "fx_transfers_are_append_only": changes("ledger_fx_transfer"),
    },
    "ledger_hold": {
        "hold_status_is_known": [copy("ledger_hold", OPEN, status="'odd'")],
        "hold_reserves_money": [
            copy("ledger_hold", "status = 'captured'", amount_minor="0", captured_minor="0")
        ],
        "hold_captures_at_most_its_amount": [
            change("ledger_hold", "captured_minor = amount_minor + 1 WHERE status = 'captured'"),
            change("ledger_hold", "captured_minor = -1 WHERE status = 'captured'"),
        ],
        "hold_captured_iff_so_named": [
            change("ledger_hold", "captured_minor = 1 WHERE status <> 'captured'")
        ],
        "hold_has_something_left_unless_captured": [
            copy("ledger_hold", OPEN, multi_capture="true", captured_minor="one.amount_minor"),
            *(
                copy(
                    "ledger_hold",
                    OPEN,
                    multi_capture="true",
                    captured_minor="one.amount_minor",
                    status=f"'{ended}'",
                )
                for ended in ("voided", "expired")
            ),
        ],
        "hold_names_two_accounts": [
            copy("ledger_hold", OPEN, debit_account_id="one.credit_account_id"),
        ],
        "hold_owns_its_debit_account": [
            copy("ledger_hold", OPEN, debit_account_id="%(stranger)s::uuid")
        ],
        "hold_owns_its_credit_account": [
            copy("ledger_hold", OPEN, credit_account_id="%(stranger)s::uuid")
        ],
        "open_hold_reference_is_unique": [
            copy("ledger_hold", "reference = 'hold-1'", keeps_reference="FALSE")
        ],
        "hold_reference_is_unique": [
            copy("ledger_hold", "reference = 'hold-1'", status="'voided'")
        ],
        "hold_keeps_a_reference_it_has": [
            copy("ledger_hold", OPEN, reference="NULL", keeps_reference="TRUE")
        ],
        "holds_stay": goes("ledger_hold"),
        "hold_is_what_it_was": [
            *becomes("ledger_hold", "id organization_id", OTHER_ID),
            *becomes("ledger_hold", "debit_account_id credit_account_id", OTHER_ID),
            change("ledger_hold", "currency = 'SEK'"),
            change("ledger_hold", "amount_minor = amount_minor + 1"),
            change("ledger_hold", "multi_capture = NOT multi_capture"),
            # No value, which is none that compares.
            change("ledger_hold", "reference = NULL WHERE reference IS NOT NULL"),
            change("ledger_hold", "keeps_reference = NOT keeps_reference"),
            change("ledger_hold", "expires_at = now() WHERE expires_at IS NULL"),
        ],
        # The one that is captured in parts has 3 of its 10.
        "hold_is_captured_while_open": [
            change("ledger_hold", "captured_minor = captured_minor - 1 WHERE captured_minor > 0"),
            change("ledger_hold", "captured_minor = 0, status = 'voided' WHERE multi_capture"),
            change("ledger_hold", "captured_minor = captured_minor + 1 WHERE status = 'captured'"),
        ],
        "hold_ends_for_good": [
            *(
                change("ledger_hold", f"status = '{status}' WHERE status = 'voided'")
                for status in ("open", "captured", "expired")
            ),
            change(
                "ledger_hold", "status = 'voided', captured_minor = 0 WHERE status = 'captured'"
            ),
        ],
    },
    "ledger_hold_event": {
        "hold_event_owns_its_hold": [
            copy("ledger_hold_event", "NOT terminal", hold_id=NOBODY),
            copy("ledger_hold_event", "NOT terminal", organization_id="%(other)s::uuid"),
        ],
        "hold_ends_once": [
            copy("ledger_hold_event", "kind = 'captured'"),
            copy("ledger_hold_event", "kind = 'captured'", kind="'voided'", entry_id="NULL"),
        ],
        "hold_event_says_what_happened": [
            copy("ledger_hold_event", "kind = 'placed'", kind="'odd'"),
            copy("ledger_hold_event", "kind = 'placed'", amount_minor="0"),
            copy("ledger_hold_event", "kind = 'placed'", terminal="true"),
            copy("ledger_hold_event", "kind = 'placed'", entry_id=NOBODY),
            copy("ledger_hold_event", "kind = 'voided'", amount_minor="0"),
            copy(
                "ledger_hold_event",
                "kind = 'captured'",
                amount_minor="0",
                entry_id="NULL",
                terminal="false",
            ),
            copy("ledger_hold_event", "kind = 'captured'", entry_id="NULL"),
            copy("ledger_hold_event", "kind = 'captured'", amount_minor="0"),
            copy("ledger_hold_event", "kind = 'voided'", terminal="false"),
            copy("ledger_hold_event", "kind = 'voided'", entry_id=NOBODY),
        ],
        "hold_events_are_append_only": changes("ledger_hold_event"),
    },
    "ledger_journal_entry": {
        "journal_entry_reference_is_unique": [
            copy("ledger_journal_entry", "reference IS NOT NULL")
        ],
        "journal_entry_is_reversed_once": [copy("ledger_journal_entry", "reverses_id IS NOT NULL")],
        "reversal_is_of_its_organization": [
            copy("ledger_journal_entry", "reference IS NULL", reverses_id=NOBODY),
            copy("ledger_journal_entry", "reference IS NULL", reverses_id="%(their_entry)s::uuid"),
        ],
        "journal_entries_are_append_only": changes("ledger_journal_entry"),
    },
    "ledger_monthly_total": {
        "monthly_total_clock_is_known": [copy("ledger_monthly_total", clock="'odd'")],
        "ledger_monthly_total_pkey": [copy("ledger_monthly_total", postings="0")],
    },
    "ledger_period": {
        "period_state_is_known": [
            copy("ledger_period", month="'2020-01-01'", state="'odd'", closed_at="NULL")
        ],
        "period_has_its_length": [
            copy("ledger_period", month="'2020-01-01'", ends_at="one.starts_at")
        ],
        "period_is_closed_by_two": [
            change("ledger_period", "approved_by = requested_by"),
            change("ledger_period", "approved_by = ''"),
            change("ledger_period", "requested_by = ''"),
            # It takes two to begin already.
            copy(
                "ledger_period",
                month="'2020-01-01'",
                state="'closing'",
                closed_at="NULL",
                approved_by="''",
            ),
            # Opened again, it names those who closed it.
            copy(
                "ledger_period",
                month="'2020-01-01'",
                state="'open'",
                closed_at="NULL",
                requested_by="''",
                approved_by="''",
            ),
        ],
        "period_is_reopened_by_two": [
            change("ledger_period", f"state = 'open', closed_at = NULL, {names}")
            for names in (
                "reopening_requested_by = 'a', reopening_approved_by = 'b'",
                "reopening_requested_by = 'a', reopening_reason = 'c'",
                "reopening_requested_by = 'a', reopening_approved_by = 'a', reopening_reason = 'c'",
            )
        ]
        + [
            copy(
                "ledger_period",
                month="'2020-01-01'",
                state="'open'",
                closed_at="NULL",
                reopening_approved_by="'b'",
                reopening_reason="'c'",
            ),
            # Nobody opened what is closed.
            change(
                "ledger_period",
                "reopening_requested_by = 'a', reopening_approved_by = 'b', reopening_reason = 'c'",
            ),
        ],
        "period_names_who_reopened_it": [
            change("ledger_period", "state = 'open', closed_at = NULL"),
            change(
                "ledger_period",
                "state = 'open', closed_at = NULL, reopening_approved_by = 'b',"
                " reopening_reason = 'c'",
            ),
        ],
        "period_closed_at_iff_closed": [
            change("ledger_period", "closed_at = NULL"),
            change(
                "ledger_period",
                "state = 'open', reopening_requested_by = 'a', reopening_approved_by = 'b',"
                " reopening_reason = 'c'",
            ),
        ],
        "period_is_one_month": [copy("ledger_period")],
        "periods_stay": goes("ledger_period"),
        "period_is_what_it_was": [
            *becomes("ledger_period", "id organization_id", OTHER_ID),
            *becomes("ledger_period", "month starts_at ends_at", OTHER_TIME),
        ],
        "period_moves": [change("ledger_period", "state = 'closing', closed_at = NULL")],
    },
    "ledger_period_balance": {
        "period_balances_are_append_only": changes("ledger_period_balance"),
    },
    "ledger_posting": {
        "posting_moves_money": [copy("ledger_posting", number="9", amount_minor="0")],
        "ledger_posting_pkey": [copy("ledger_posting", account_version="1000")],
        "posting_account_version_is_unique": [copy("ledger_posting", number="9")],
        "postings_are_append_only": changes("ledger_posting"),
        # The trigger `postings_are_balanced`, by what it finds; test_guards.py has it in full.
        "journal_entry_is_written_once": [
            copy("ledger_posting", number="9", account_version="1000")
        ],
        "journal_entry_is_balanced": [
            copy("ledger_posting", entry_id=NOBODY, number="1", account_version="1000")
        ],
    },
    "ledger_type_total": {
        "ledger_type_total_pkey": [copy("ledger_type_total", postings="0")],
    },
    "ledger_transfer_batch": {
        "transfer_batches_are_append_only": changes("ledger_transfer_batch"),
    },
}


# Nothing refuses these: a reference is an organisation's own, and a hold's is free once it ended.
TAKEN = [
    copy("ledger_fx_transfer", "reference IS NOT NULL", organization_id="%(other)s::uuid"),
    copy("ledger_journal_entry", "reference IS NOT NULL", organization_id="%(other)s::uuid"),
    copy("ledger_hold", "reference = 'hold-1'", organization_id="%(other)s::uuid"),
    copy("ledger_hold", "reference = 'hold-1'", status="'voided'", keeps_reference="FALSE"),
]
