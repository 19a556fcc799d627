-- What transfers of one organization would make of their accounts, one after the other: two lines
-- each, with the account as it stands after that one, and whether it is taken there.
CREATE FUNCTION kassa_lines_of_transfers(
    org uuid, at timestamptz, debited uuid[], credited uuid[], amounts bigint[], currencies text[]
) RETURNS TABLE (
    transfer bigint, number integer, account uuid, amount bigint, currency text,
    version bigint, posted bigint, available bigint, is_taken boolean
) LANGUAGE sql STABLE AS $$
    SELECT l.transfer, l.number, l.account, l.amount, l.currency, b.version + l.step, after.posted,
           after.posted - CASE WHEN b.credit_normal THEN b.pending_debits ELSE b.pending_credits END,
           CASE WHEN l.amount > 0
                THEN kassa_takes_transfer(b, TRUE, l.debits, l.debits - l.credits, l.currency, at)
                ELSE kassa_takes_transfer(b, FALSE, l.credits, l.credits - l.debits, l.currency, at)
                 END
      FROM (SELECT t.transfer, side.number, side.account, side.amount, t.currency,
                   (sum(greatest(side.amount, 0)) OVER so_far)::bigint AS debits,
                   (sum(greatest(-side.amount, 0)) OVER so_far)::bigint AS credits,
                   row_number() OVER so_far AS step
              FROM unnest(debited, credited, amounts, currencies)
                   WITH ORDINALITY AS t(debited, credited, amount, currency, transfer),
                   LATERAL (VALUES (1, t.debited, t.amount), (2, t.credited, -t.amount))
                        AS side(number, account, amount)
             -- An account on both sides is refused, and has no line here.
             WHERE t.debited <> t.credited
            WINDOW so_far AS (PARTITION BY side.account ORDER BY t.transfer
                              ROWS UNBOUNDED PRECEDING)) AS l
      JOIN ledger_balance b ON b.organization_id = org AND b.id = l.account
     CROSS JOIN LATERAL (
           SELECT (b.posted_debits - b.posted_credits + l.debits - l.credits)
                  * CASE WHEN b.credit_normal THEN -1 ELSE 1 END AS posted) AS after
$$;

-- Post transfers of one organization of which nothing has to be decided, in their order, as
-- `kassa_try_transfer` does one: all of them, with a row for each; or none of them, without a row,
-- where a single one is not plain. Under the same locks, which are taken in the same order.
--
-- They happen at `at`, or at the latest that one of their accounts has seen if a group of another
-- process, whose clock may be as far ahead as `rules.posting` allows, had them meanwhile.
CREATE FUNCTION kassa_post_transfers(
    org uuid, at timestamptz,
    keys text[], operations text[], fingerprints bytea[], prefixes text[], entries uuid[],
    kinds text[], descriptions text[], metadata text[], actors text[],
    debited uuid[], credited uuid[], amounts bigint[], currencies text[],
    batch uuid, batch_trace text, event_name text, event_type text, event_version bigint,
    aggregate_type text, events uuid[], aggregates text[], requests text[], traces text[],
    causes uuid[], data text[]
) RETURNS TABLE (
    recorded timestamptz, happened timestamptz,
    debited_version bigint, debited_posted bigint, debited_available bigint,
    credited_version bigint, credited_posted bigint, credited_available bigint
) LANGUAGE plpgsql SET search_path = public, pg_temp
-- Another group may have its accounts until its COMMIT. Who would wait for longer does so in the
-- engine, which knows for what.
SET lock_timeout = '50ms'
-- Planned for arrays of any length: made for some, a plan costs more than to carry it out.
SET plan_cache_mode = 'force_generic_plan' AS $$
DECLARE
    many CONSTANT integer := cardinality(entries);
    latest CONSTANT timestamptz := at + interval '5 seconds';
    counted integer;
    accounts uuid[]; changes bigint[]; versions bigint[]; posted bigint[]; available bigint[];
BEGIN
    -- Before anything is written, and without a lock: here ends most of what is not plain.
    SELECT count(*) INTO counted
      FROM kassa_lines_of_transfers(org, latest, debited, credited, amounts, currencies) AS l
     WHERE l.is_taken;
    IF counted <> 2 * many OR EXISTS (
        SELECT FROM core_idempotency_key k WHERE k.organization_id = org AND k.key = ANY (keys)
    ) THEN
        RETURN;
    END IF;

    INSERT INTO core_idempotency_key
        (organization_id, key, operation, fingerprint, prefix, resource_id, created_at)
    SELECT org, k.key, k.operation, k.fingerprint, k.prefix, k.resource_id, clock_timestamp()
      FROM unnest(keys, operations, fingerprints, prefixes, entries)
           AS k(key, operation, fingerprint, prefix, resource_id)
     ORDER BY k.key COLLATE "C"
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS counted = ROW_COUNT;
    -- What one stands for is found out by the engine. The others are not to stand without it.
    IF counted <> many THEN
        RAISE EXCEPTION '% of % keys stand by now, and are left to the engine',
                many - counted, many
            USING ERRCODE = 'KA001';
    END IF;

    SELECT greatest(at, max(b.latest_effective_at)) INTO happened
      FROM (SELECT b.latest_effective_at FROM ledger_balance b
             WHERE b.organization_id = org AND b.id = ANY (debited || credited)
             ORDER BY b.id FOR NO KEY UPDATE) AS b;
    -- Under the locks, so an account's versions never run against its recorded times.
    recorded := clock_timestamp();

    -- What counts is what stands under the locks.
    SELECT count(*) FILTER (WHERE l.is_taken), array_agg(l.account), array_agg(l.amount),
           array_agg(l.version), array_agg(l.posted), array_agg(l.available)
      INTO counted, accounts, changes, versions, posted, available
      FROM (SELECT * FROM kassa_lines_of_transfers(
                org, latest, debited, credited, amounts, currencies) ORDER BY transfer, number) AS l;
    IF counted <> 2 * many THEN
        RAISE EXCEPTION 'transfers are no longer plain, and are left to the engine'
            USING ERRCODE = 'KA001';
    END IF;

    UPDATE ledger_balance b
       SET posted_debits = b.posted_debits + l.debits,
           posted_credits = b.posted_credits + l.credits,
           version = l.version, latest_effective_at = happened
      FROM (SELECT account, max(version) AS version,
                   sum(greatest(change, 0))::bigint AS debits,
                   sum(greatest(-change, 0))::bigint AS credits
              FROM unnest(accounts, changes, versions) AS l(account, change, version)
             GROUP BY account) AS l
     WHERE b.organization_id = org AND b.id = l.account;
    INSERT INTO ledger_journal_entry
        (id, organization_id, kind, description, effective_at, recorded_at, actor, metadata)
    SELECT e.id, org, e.kind, e.description, happened, recorded, e.actor, e.metadata::jsonb
      FROM unnest(entries, kinds, descriptions, actors, metadata)
           AS e(id, kind, description, actor, metadata);
    -- By account, as their largest index has them.
    INSERT INTO ledger_posting
        (organization_id, entry_id, number, account_id, amount_minor, currency,
         account_version, balance_after_minor, effective_at, recorded_at)
    SELECT org, entries[(p.line + 1) / 2], 2 - p.line % 2, p.account, p.change,
           currencies[(p.line + 1) / 2], p.version, p.posted, happened, recorded
      FROM unnest(accounts, changes, versions, posted)
           WITH ORDINALITY AS p(account, change, version, posted, line)
     ORDER BY p.account, p.version;

    -- As the outbox writes a batch (`apps.core.outbox`).
    INSERT INTO core_outbox_batch
        (id, organization_id, public, event_count, inserted_at, state, attempts, lapses,
         next_attempt_at, last_error_code, traceparent)
    VALUES (batch, org, TRUE, many, clock_timestamp(), 'pending', 0, 0, clock_timestamp(), '',
            batch_trace);
    INSERT INTO core_outbox_event
        (id, organization_id, batch_id, ordinal, name, type, public, schema_version,
         aggregate_type, aggregate_id, sequence, occurred_at, recorded_at, actor,
         request_id, traceparent, causation_id, data)
    SELECT e.id, org, batch, e.place - 1, event_name, event_type, TRUE, event_version,
           aggregate_type, e.aggregate, 1, at, clock_timestamp(), e.actor,
           e.request, e.trace, e.cause,
           -- It says what `at` is, and is as `print_instant` has it.
           CASE WHEN happened = at THEN e.data::jsonb
                ELSE e.data::jsonb || jsonb_build_object('effective_at', replace(to_char(
                    happened AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', ''))
                 END
      FROM unnest(events, aggregates, actors, requests, traces, causes, data)
           WITH ORDINALITY AS e(id, aggregate, actor, request, trace, cause, data, place);

    FOR line IN 1 .. 2 * many BY 2 LOOP
        debited_version := versions[line];
        debited_posted := posted[line];
        debited_available := available[line];
        credited_version := versions[line + 1];
        credited_posted := posted[line + 1];
        credited_available := available[line + 1];
        RETURN NEXT;
    END LOOP;
END;
$$;
