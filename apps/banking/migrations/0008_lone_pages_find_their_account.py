import apps.core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):
    """
    A page alone waits for its account with the balances it has, and for its other pages after that.

    The constraint only allows more; looking at each statement for it takes a moment, as there is
    one a day and account.
    """

    dependencies = [
        ("accounts", "0004_mails_take_turns"),
        ("banking", "0007_parked_lines_are_found_by_turn"),
    ]

    operations = together([
        # Whoever reads statements queues up behind this, so it gives up before they do, and can be
        # run again.
        migrations.RunSQL("SET LOCAL lock_timeout = '2s'", migrations.RunSQL.noop),
        pgtrigger.migrations.RemoveTrigger(
            model_name="bankstatement",
            name="bank_statement_moves",
        ),
        migrations.RemoveConstraint(
            model_name="bankstatement",
            name="bank_statement_has_balances",
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="bankstatement",
            trigger=pgtrigger.compiler.Trigger(
                name="bank_statement_moves",
                sql=apps.core.triggers.GuardSql(
                    func="IF OLD.\"state\" IS DISTINCT FROM NEW.\"state\" AND (OLD.\"state\", NEW.\"state\") NOT IN (('unknown_account', 'imported'), ('unknown_account', 'known'), ('unknown_account', 'waiting')) THEN RAISE EXCEPTION '%: % does not become %', TG_TABLE_NAME, OLD.\"state\", NEW.\"state\" USING ERRCODE = 'check_violation', CONSTRAINT = 'bank_statement_moves'; END IF; RETURN NEW;",
                    hash="047ead86aeeea12e210d7bc3e9ded31f9f844559",
                    operation='UPDATE OF "state"',
                    pgid="pgtrigger_bank_statement_moves_6e3d8",
                    table="banking_statement",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="bankstatement",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("closing_date__isnull", False),
                        ("closing_minor__isnull", False),
                        ("opening_date__isnull", False),
                        ("opening_minor__isnull", False),
                    ),
                    models.Q(("source", "statement"), _negated=True),
                    ("state__in", ["waiting", "unknown_account"]),
                    _connector="OR",
                ),
                name="bank_statement_has_balances",
            ),
        ),
    ])
