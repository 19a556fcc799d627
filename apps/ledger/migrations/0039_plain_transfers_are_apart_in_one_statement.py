from django.db import migrations

# As `sql/post_transfer.sql` is at this migration, behind `kassa_takes_transfer`.
_APART = """
    -- Write a transfer of which nothing has to be decided: its key, its locks, its entry and its event,
    -- and say what became of the accounts. Of any other one no time of recording is answered, and what
    -- is written of it by then is to be rolled back: for the procedure below alone, which does so. The
    -- engine decides it, and says why where it refuses (ADR 0178, 0187).
    --
    -- In the order of all posters: the key, the balances ascending, what is appended. Each statement
    -- sees what was committed before it began, so what counts is what stands under the locks.
    CREATE FUNCTION kassa_try_transfer(
        org uuid, key text, operation text, fingerprint bytea, prefix text,
        entry uuid, kind text, description text, metadata text, at timestamptz, actor text,
        debited uuid, credited uuid, amount bigint, of_currency text,
        batch uuid, event uuid, event_name text, event_type text, event_version bigint,
        aggregate_type text, aggregate text, request text, trace text, cause uuid, data text,
        waits boolean,
        OUT recorded timestamptz,
        OUT debited_version bigint, OUT debited_posted bigint, OUT debited_available bigint,
        OUT credited_version bigint, OUT credited_posted bigint, OUT credited_available bigint
    ) LANGUAGE plpgsql SET search_path = public, pg_temp
    -- Who would wait for longer does so in the engine, which knows for what.
    SET lock_timeout = '5ms' AS $$
    DECLARE
        balance record;
        locked integer;
        moved integer := 0;
        under_locks timestamptz;
    BEGIN
        -- Before anything is written, and without a lock: here ends most of what is not plain.
        PERFORM FROM ledger_balance d JOIN ledger_balance c ON c.organization_id = d.organization_id
          WHERE d.organization_id = org AND d.id = debited AND c.id = credited AND d.id <> c.id
            AND kassa_takes_transfer(d, TRUE, amount, amount, of_currency, at)
            AND kassa_takes_transfer(c, FALSE, amount, amount, of_currency, at);
        IF NOT FOUND THEN
            RETURN;
        END IF;

        INSERT INTO core_idempotency_key
            (organization_id, key, operation, fingerprint, prefix, resource_id, created_at)
        VALUES (org, key, operation, fingerprint, prefix, entry, clock_timestamp())
            ON CONFLICT DO NOTHING;
        -- What it stands for is found out by the engine.
        IF NOT FOUND THEN
            RETURN;
        END IF;

        -- With others behind it, which are not to wait for what somebody has of this organization, an
        -- account that is locked is as good as changed.
        IF waits THEN
            PERFORM FROM ledger_balance b
              WHERE b.organization_id = org AND b.id IN (debited, credited)
              ORDER BY b.id FOR NO KEY UPDATE;
        ELSE
            PERFORM FROM ledger_balance b
              WHERE b.organization_id = org AND b.id IN (debited, credited)
              ORDER BY b.id FOR NO KEY UPDATE SKIP LOCKED;
            GET DIAGNOSTICS locked = ROW_COUNT;
            IF locked <> 2 THEN
                RETURN;
            END IF;
        END IF;
        -- Under the locks, so an account's versions never run against its recorded times.
        under_locks := clock_timestamp();

        FOR balance IN
            UPDATE ledger_balance b
               SET posted_debits = b.posted_debits + CASE WHEN b.id = debited THEN amount ELSE 0 END,
                   posted_credits = b.posted_credits + CASE WHEN b.id = credited THEN amount ELSE 0 END,
                   version = b.version + 1, latest_effective_at = at
             WHERE b.organization_id = org AND b.id IN (debited, credited)
               AND kassa_takes_transfer(b, b.id = debited, amount, amount, of_currency, at)
            RETURNING b.id, b.version,
                      CASE WHEN b.credit_normal THEN b.posted_credits - b.posted_debits
                           ELSE b.posted_debits - b.posted_credits END AS posted,
                      CASE WHEN b.credit_normal THEN b.pending_debits
                           ELSE b.pending_credits END AS reserved
        LOOP
            moved := moved + 1;
            IF balance.id = debited THEN
                debited_version := balance.version;
                debited_posted := balance.posted;
                debited_available := balance.posted - balance.reserved;
            ELSE
                credited_version := balance.version;
                credited_posted := balance.posted;
                credited_available := balance.posted - balance.reserved;
            END IF;
        END LOOP;
        -- One of them changed before it was locked.
        IF moved <> 2 THEN
            RETURN;
        END IF;

        INSERT INTO ledger_journal_entry
            (id, organization_id, kind, description, effective_at, recorded_at, actor, metadata)
        VALUES (entry, org, kind, description, at, under_locks, actor, metadata::jsonb);
        INSERT INTO ledger_posting
            (organization_id, entry_id, number, account_id, amount_minor, currency,
             account_version, balance_after_minor, effective_at, recorded_at)
        VALUES (org, entry, 1, debited, amount, of_currency,
                debited_version, debited_posted, at, under_locks),
               (org, entry, 2, credited, -amount, of_currency,
                credited_version, credited_posted, at, under_locks);

        -- As the outbox writes a batch of one (`apps.core.outbox`).
        INSERT INTO core_outbox_batch
            (id, organization_id, public, event_count, inserted_at, state, attempts, lapses,
             next_attempt_at, last_error_code, traceparent)
        VALUES (batch, org, TRUE, 1, clock_timestamp(), 'pending', 0, 0, clock_timestamp(), '', trace);
        INSERT INTO core_outbox_event
            (id, organization_id, batch_id, ordinal, name, type, public, schema_version,
             aggregate_type, aggregate_id, sequence, occurred_at, recorded_at, actor,
             request_id, traceparent, causation_id, data)
        VALUES (event, org, batch, 0, event_name, event_type, TRUE, event_version,
                aggregate_type, aggregate, 1, at, clock_timestamp(), actor,
                request, trace, cause, data::jsonb);
        recorded := under_locks;
    END;
    $$;

    -- Post transfers of several organizations one after the other, a transaction each, and answer a line
    -- for each, without a time of recording where it is the engine's. The last one is committed by the
    -- end of the statement.
    --
    -- A transaction that begins and ends in here costs less than one that is a statement by itself, and
    -- who asks hears of all of them at once (ADR 0187). A fault ends the rest. What was committed before
    -- it stands, and its key says so to the engine, whose all of them are then. Of more than one it is
    -- called without a statement timeout, which would end the wait of a COMMIT for a standby.
    --
    -- A procedure that commits sets nothing of its own, so what it calls does.
    CREATE PROCEDURE kassa_post_transfers_apart(
        orgs uuid[], keys text[], operations text[], fingerprints bytea[], prefixes text[],
        entries uuid[], kinds text[], descriptions text[], metadata text[], ats timestamptz[],
        actors text[], debited uuid[], credited uuid[], amounts bigint[], currencies text[],
        batches uuid[], events uuid[], event_name text, event_type text, event_version bigint,
        aggregate_type text, aggregates text[], requests text[], traces text[], causes uuid[],
        data text[],
        OUT recorded timestamptz[],
        OUT debited_versions bigint[], OUT debited_posted bigint[], OUT debited_available bigint[],
        OUT credited_versions bigint[], OUT credited_posted bigint[], OUT credited_available bigint[]
    ) LANGUAGE plpgsql AS $$
    DECLARE
        many CONSTANT integer := cardinality(orgs);
        posted record;
    BEGIN
        FOR n IN 1 .. many LOOP
            posted := public.kassa_try_transfer(
                orgs[n], keys[n], operations[n], fingerprints[n], prefixes[n], entries[n], kinds[n],
                descriptions[n], metadata[n], ats[n], actors[n], debited[n], credited[n], amounts[n],
                currencies[n], batches[n], events[n], event_name, event_type, event_version,
                aggregate_type, aggregates[n], requests[n], traces[n], causes[n], data[n],
                waits => many = 1
            );
            IF posted.recorded IS NULL THEN
                ROLLBACK;
            ELSIF n < many THEN
                COMMIT;
            END IF;
            recorded[n] := posted.recorded;
            debited_versions[n] := posted.debited_version;
            debited_posted[n] := posted.debited_posted;
            debited_available[n] := posted.debited_available;
            credited_versions[n] := posted.credited_version;
            credited_posted[n] := posted.credited_posted;
            credited_available[n] := posted.credited_available;
        END LOOP;
    END;
    $$;
"""
_UNDO = """
    DROP PROCEDURE kassa_post_transfers_apart;
    DROP FUNCTION kassa_try_transfer;
"""


class Migration(migrations.Migration):
    """Plain transfers of several organizations are one statement, a transaction each (ADR 0187)."""

    dependencies = [("ledger", "0038_postings_dated_ahead")]
    operations = [
        # `kassa_post_transfer` stays for processes of the release before, and goes with the next one.
        migrations.RunSQL(_APART, _UNDO),
    ]
