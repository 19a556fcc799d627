"""
Whose each table is, read from Postgres' own catalogue.

It keeps the door open to distributing by organization (operations.md, section 9, "Scale-out"): a
new table is listed here first, as tenant, reference or local, and then obeys the rules below.
"""

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db

# Rows of one organization each; distributed by `organization_id`.
TENANT = {
    "accounts_apikey",
    "accounts_contact",
    "accounts_customer",
    "accounts_mail",
    "approvals_decision",
    "approvals_policy",
    "approvals_request",
    "backoffice_correction",
    "backoffice_daily_metric",
    "banking_account",
    "banking_connection",
    "banking_connection_poll",
    "banking_file",
    "banking_file_work",
    "banking_line",
    "banking_line_detail",
    "banking_line_queue",
    "banking_line_status",
    "banking_statement",
    "core_data_key",
    "core_event_work",
    "core_feed_head",
    "core_idempotency_key",
    "core_outbox_batch",
    "core_outbox_event",
    "ledger_account",
    "ledger_balance",
    "ledger_balance_monitor",
    "ledger_chain_head",
    "ledger_chain_link",
    "ledger_entry_metadata",
    "ledger_fx_transfer",
    "ledger_hold",
    "ledger_hold_event",
    "ledger_journal_entry",
    "ledger_monthly_total",
    "ledger_period",
    "ledger_period_balance",
    "ledger_posting",
    "ledger_transfer_batch",
    "ledger_type_total",
    "payments_payment",
    "payments_unmatched_money",
    "payments_virtual_reference",
    "payouts_attempt",
    "payouts_bank_fact",
    "payouts_batch",
    "payouts_batch_work",
    "payouts_destination",
    "payouts_destination_version",
    "payouts_payout",
    "payouts_price",
    "payouts_transition",
    "reconciliation_break",
    "reconciliation_match",
    "reconciliation_match_leg",
    "reconciliation_opening",
    "risk_decision",
    "risk_fact",
    "risk_limit",
    "risk_scope",
    "webhooks_inboundevent",
    "webhooks_providerconnection",
    "webhooks_providersecret",
    "webhooks_refusedcall",
    "webhooks_webhookattempt",
    "webhooks_webhookbody",
    "webhooks_webhookchange",
    "webhooks_webhookdelivery",
    "webhooks_webhookendpoint",
    "webhooks_webhookfanout",
    "webhooks_webhooklane",
    "webhooks_webhookreplay",
    "webhooks_webhooksecret",
}
# Small, and the same for everybody; copied to every node, so that a tenant's row may point at them.
REFERENCE = {"accounts_organization", "accounts_staff", "banking_calendar_day"}
# The platform's own; on one node.
LOCAL = {
    "accounts_staffrole",
    "accounts_staffscope",
    "auth_group",
    "auth_group_permissions",
    "auth_permission",
    "backoffice_invariant_check",
    # Acts on the platform itself have no organization, and its head is one for all.
    "core_audit_event",
    # Jobs of the platform run once for all organizations.
    "core_job_run",
    # A queue's workers are the platform's.
    "core_queue_heartbeat",
    "django_admin_log",
    "django_content_type",
    "django_migrations",
    "django_session",
}
# A lone `id` as primary key is swapped for (organization_id, id) on the day of distribution.
# These begin with something else, for a reason.
UNIQUE_EXCEPTIONS = {
    # The key names its organization: it is looked up before anybody knows whose it is.
    "api_key_id_is_unique",
}
INDEX_EXCEPTIONS = {
    # A worker claims what is due, whoever's it is; a cluster asks for organizations first.
    "bank_file_work_due",
    "bank_line_queue_due",
    "connection_poll_due",
    "event_work_due",
    "inbound_event_due",
    "mail_due",
    "outbox_batch_due",
    "payout_batch_work_due",
    "webhook_change_due",
    "webhook_lane_due",
    # Staff look at what was set aside, whoever's it is; there are few such rows.
    "bank_file_work_set_aside",
    "bank_line_queue_set_aside",
    "connection_poll_set_aside",
    "event_work_set_aside",
    "inbound_event_set_aside",
    "mail_set_aside",
    "outbox_batch_set_aside",
    "payout_batch_work_set_aside",
    "webhook_change_set_aside",
    "webhook_lane_set_aside",
    # A job takes bodies out that were kept long enough, whoever's they are.
    "inbound_event_with_a_body",
    # A job ends the cool-downs that are over, whoever's they are.
    "payout_held",
    # Texts are looked up by what they are; the organization is compared on the few rows found.
    "entry_metadata",
    "fx_transfer_metadata",
    "hold_metadata",
    "ledger_account_metadata",
    "later_entry_metadata",
}


def rows(statement: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


class TestTables:
    def test_are_each_listed_once(self):
        there = {
            table
            for (table,) in rows(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relkind IN ('r', 'p') AND NOT relispartition"
            )
        }

        assert there == TENANT | REFERENCE | LOCAL
        assert len(TENANT) + len(REFERENCE) + len(LOCAL) == len(there)

    def test_of_tenants_say_whose_each_row_is(self):
        found = rows(
            "SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class ON oid = attrelid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND attname = 'organization_id' AND atttypid = 'uuid'::regtype AND attnotnull"
        )

        assert TENANT - {table for (table,) in found} == set()

    def test_of_tenants_have_ids_made_by_the_application(self):
        numbered = rows(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public'"
            " AND (is_identity = 'YES' OR column_default LIKE 'nextval%')"
        )

        assert [one for one in numbered if one[0] in TENANT | REFERENCE] == []

    def test_hold_no_float(self):
        """Money least of all (the map, rule 1): amounts are bigint, what is more is numeric."""
        floats = rows(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type IN ('real', 'double precision', 'money')"
        )

        assert floats == []

    def test_are_read_by_no_view(self):
        assert rows("SELECT viewname FROM pg_views WHERE schemaname = 'public'") == []
        assert rows("SELECT matviewname FROM pg_matviews WHERE schemaname = 'public'") == []


_INDEXES = """
    SELECT indrelid::regclass::text, indexrelid::regclass::text, indisunique OR indisexclusion,
           indisprimary AND indnkeyatts = 1,
           (SELECT attname FROM pg_attribute
             WHERE attrelid = indrelid AND attnum = indkey[0] AND indkey[0] > 0)
      FROM pg_index JOIN pg_class AS of_table ON of_table.oid = indrelid
     WHERE relnamespace = 'public'::regnamespace
"""


def strays(*, unique: bool) -> set[str]:
    """Return the tenant tables' indexes that do not begin with the organization."""
    return {
        index
        for table, index, is_unique, is_lone_key, first in rows(_INDEXES)
        if table in TENANT
        and is_unique == unique
        and first != "organization_id"
        and not (is_lone_key and first == "id")
    }


class TestIndexes:
    def test_that_are_unique_begin_with_the_organization(self):
        assert strays(unique=True) == UNIQUE_EXCEPTIONS

    def test_begin_with_the_organization(self):
        assert strays(unique=False) == INDEX_EXCEPTIONS

    def test_that_do_not_are_partial(self):
        whole = rows(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NULL"
            " AND indrelid::regclass::text NOT LIKE 'pg_%'"
        )

        assert INDEX_EXCEPTIONS & {index for (index,) in whole} == set()


_FOREIGN_KEYS = """
    SELECT conname, conrelid::regclass::text, confrelid::regclass::text,
           ARRAY(SELECT attname FROM unnest(conkey) WITH ORDINALITY AS key(number, place)
                   JOIN pg_attribute ON attrelid = conrelid AND attnum = number
                  ORDER BY place)::text[],
           ARRAY(SELECT attname FROM unnest(confkey) WITH ORDINALITY AS key(number, place)
                   JOIN pg_attribute ON attrelid = confrelid AND attnum = number
                  ORDER BY place)::text[]
      FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace
"""


class TestForeignKeys:
    def test_between_tenants_carry_the_organization_on_both_sides(self):
        wrong = [
            name
            for name, source, target, own, theirs in rows(_FOREIGN_KEYS)
            if source in TENANT
            and target in TENANT
            and ("organization_id", "organization_id") not in set(zip(own, theirs, strict=True))
        ]

        assert wrong == []

    def test_of_tenants_lead_to_no_local_table(self):
        found = rows(_FOREIGN_KEYS)

        assert [
            name for name, source, target, *_ in found if source in TENANT and target in LOCAL
        ] == []

    def test_of_others_lead_to_no_tenant(self):
        found = rows(_FOREIGN_KEYS)

        assert [
            name for name, source, target, *_ in found if source not in TENANT and target in TENANT
        ] == []

    def test_to_the_organization_are_there_where_models_say_so(self):
        found = rows(_FOREIGN_KEYS)

        # Tables of core carry a plain UUID, since a key would point up; so do rows that are
        # written by the thousand, whose parent has the key (an entry's are the accounts it moves).
        without = TENANT - {s for _, s, target, *_ in found if target == "accounts_organization"}
        assert {table for table in without if not table.startswith("core_")} == {
            "ledger_chain_link",
            "ledger_entry_metadata",
            "ledger_journal_entry",
            "ledger_monthly_total",
            "ledger_period_balance",
            "ledger_posting",
            "ledger_type_total",
            "payouts_batch_work",
        }
