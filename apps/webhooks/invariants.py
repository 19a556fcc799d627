"""
SQL that must return no row, by the name of what it holds to.

That no lane is overdue holds of every kind of work (`apps.core.invariants`). That no lane has two
holders needs no statement: it is one row, unique, with one lease.
"""

from typing import Final

from apps.core.invariants import Invariant, by_id, by_organization

INVARIANTS: Final[dict[str, Invariant]] = {
    "webhook_endpoint_is_off_past_the_disable_rule": """
        SELECT endpoint.organization_id, endpoint.id
          FROM webhooks_webhookendpoint AS endpoint
         WHERE endpoint.status = 'enabled'
           AND endpoint.first_failure_at < clock_timestamp() - interval '121 hours'
           AND (SELECT count(DISTINCT attempt.delivery_id)
                  FROM webhooks_webhookattempt AS attempt
                 WHERE attempt.organization_id = endpoint.organization_id
                   AND attempt.endpoint_id = endpoint.id
                   AND attempt.started_at >= endpoint.first_failure_at
                   AND attempt.outcome NOT IN ('succeeded', 'no_body', 'internal_error')) >= 10
           AND EXISTS (SELECT FROM webhooks_webhookattempt AS latest
                        WHERE latest.organization_id = endpoint.organization_id
                          AND latest.endpoint_id = endpoint.id
                          AND latest.outcome NOT IN ('no_body', 'internal_error')
                          AND latest.started_at > endpoint.first_failure_at + interval '121 hours')
    """,
    # No wake reaches such a lane: what is on it waits until somebody releases the lane.
    "webhook_lane_set_aside_has_nothing_to_send": """
        SELECT lane.organization_id, lane.id, lane.state, lane.last_error_code
          FROM webhooks_webhooklane AS lane
         WHERE lane.state IN ('quarantined', 'failed', 'paused')
           AND EXISTS (
               SELECT FROM webhooks_webhookdelivery AS delivery
                WHERE delivery.organization_id = lane.organization_id
                  AND delivery.endpoint_id = lane.endpoint_id AND delivery.lane = lane.lane
                  AND delivery.status IN ('pending', 'paused'))
    """,
    "webhook_lane_sends_what_it_owes": """
        SELECT lane.organization_id, lane.id, lane.last_error_code
          FROM webhooks_webhooklane AS lane
          JOIN webhooks_webhookdelivery AS delivery
            ON delivery.organization_id = lane.organization_id
           AND delivery.endpoint_id = lane.endpoint_id AND delivery.lane = lane.lane
         WHERE lane.state IN ('pending', 'leased') AND lane.last_error_code NOT IN ('', 'rests')
           AND delivery.status = 'pending'
           AND delivery.next_attempt_at < clock_timestamp() - interval '120 seconds'
    """,
    "webhook_delivery_waits_for_its_receiver_alone": """
        SELECT delivery.organization_id, delivery.id, delivery.last_outcome
          FROM webhooks_webhookdelivery AS delivery
         WHERE delivery.status IN ('pending', 'paused')
           AND delivery.last_outcome IN ('no_body', 'internal_error')
    """,
    "webhook_delivery_is_set_aside_only_while_its_endpoint_is_off": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id, endpoint.status
          FROM {rows} AS delivery
          JOIN webhooks_webhookendpoint AS endpoint
            ON endpoint.organization_id = delivery.organization_id
           AND endpoint.id = delivery.endpoint_id
         WHERE delivery.status = 'paused' AND endpoint.status <> 'disabled'
           AND NOT endpoint.is_changing
        """,
    ),
    "webhook_delivery_is_on_the_lane_of_its_aggregate": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id, delivery.lane, endpoint.lanes
          FROM {rows} AS delivery
          JOIN webhooks_webhookendpoint AS endpoint
            ON endpoint.organization_id = delivery.organization_id
           AND endpoint.id = delivery.endpoint_id
         WHERE delivery.status = 'pending' AND NOT endpoint.is_changing
           AND delivery.lane <> mod(delivery.lane_key, endpoint.lanes)
        """,
    ),
    "webhook_endpoint_that_changes_has_its_work": """
        SELECT endpoint.organization_id, endpoint.id, change.state
          FROM webhooks_webhookendpoint AS endpoint
          LEFT JOIN webhooks_webhookchange AS change
            ON change.organization_id = endpoint.organization_id
           AND change.endpoint_id = endpoint.id
         WHERE endpoint.is_changing AND coalesce(change.state, 'done') NOT IN ('pending', 'leased')
    """,
    # An endpoint that is off keeps nothing that waits, and one that was deleted nothing open.
    "webhook_delivery_waits_only_for_an_endpoint_that_is_on": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id, endpoint.status
          FROM {rows} AS delivery
          JOIN webhooks_webhookendpoint AS endpoint
            ON endpoint.organization_id = delivery.organization_id
           AND endpoint.id = delivery.endpoint_id
         WHERE delivery.status = 'pending' AND endpoint.status <> 'enabled'
           AND NOT endpoint.is_changing
        """,
    ),
    # A batch without a row of work was relayed before this app listened, or brought in with old
    # books: that is a loss only to an endpoint that was there by then.
    "webhook_batch_is_fanned_out_within_a_minute": by_organization(
        "core_outbox_batch",
        """
        SELECT batch.organization_id, batch.id, batch.position, worked.state
          FROM {rows} AS batch
          LEFT JOIN core_event_work AS worked
            ON worked.organization_id = batch.organization_id
           AND worked.batch_id = batch.id AND worked.consumer = 'webhooks'
         WHERE batch.public AND batch.position IS NOT NULL
           AND batch.inserted_at < statement_timestamp() - interval '60 seconds'
           AND (worked.state <> 'done' OR (worked.state IS NULL AND EXISTS (
               SELECT FROM webhooks_webhookendpoint AS endpoint
                WHERE endpoint.organization_id = batch.organization_id
                  AND endpoint.created_at <= batch.inserted_at)))
        """,
    ),
    # What an endpoint asks for may have been changed since: then nobody can tell any more what it
    # had asked for when the event came. The minutes are for a change, and for an endpoint, that
    # was not committed yet when the event was fanned out.
    "webhook_event_for_an_endpoint_is_owed_to_it": by_id(
        "core_event_work",
        """
        SELECT event.organization_id, event.id, endpoint.id AS endpoint_id
          FROM {rows} AS worked
          JOIN core_outbox_event AS event
            ON event.organization_id = worked.organization_id
           AND event.batch_id = worked.batch_id AND event.public
           AND (worked.ordinal IS NULL OR worked.ordinal = event.ordinal)
          JOIN webhooks_webhookendpoint AS endpoint
            ON endpoint.organization_id = event.organization_id
           AND endpoint.created_at <= event.recorded_at - interval '1 minute'
           AND endpoint.status <> 'deleted'
           AND endpoint.event_types
            && ARRAY['*', event.type, split_part(event.type, '.', 1) || '.*']::varchar[]
         WHERE worked.consumer = 'webhooks' AND worked.state = 'done'
           AND (worked.ordinal IS NOT NULL OR NOT EXISTS (
               SELECT FROM core_event_work AS apart
                WHERE apart.organization_id = worked.organization_id
                  AND apart.batch_id = worked.batch_id AND apart.consumer = worked.consumer
                  AND apart.ordinal = event.ordinal AND apart.state <> 'done'))
           AND split_part(event.type, '.', 1)
               NOT IN ('webhook', 'webhook_endpoint', 'webhook_delivery')
           AND NOT EXISTS (
               SELECT FROM webhooks_webhookdelivery AS delivery
                WHERE delivery.organization_id = event.organization_id
                  AND delivery.event_id = event.id AND delivery.endpoint_id = endpoint.id)
           AND NOT EXISTS (
               SELECT FROM core_outbox_event AS changed
                WHERE changed.organization_id = endpoint.organization_id
                  AND changed.aggregate_type = 'webhook_endpoint'
                  AND changed.aggregate_type <> 'journal_entry'
                  AND changed.aggregate_id = kassa_public_id('whe', endpoint.id)
                  AND changed.type = 'webhook_endpoint.updated'
                  AND changed.recorded_at > event.recorded_at - interval '1 minute')
        """,
    ),
    "webhook_fanout_count_is_its_deliveries": by_id(
        "webhooks_webhookfanout",
        """
        SELECT fanout.organization_id, fanout.event_id, fanout.delivery_count, made.count
          FROM {rows} AS fanout
         CROSS JOIN LATERAL (
               SELECT COUNT(*) AS count FROM webhooks_webhookdelivery AS delivery
                WHERE delivery.organization_id = fanout.organization_id
                  AND delivery.event_id = fanout.event_id) AS made
         WHERE made.count <> fanout.delivery_count
        """,
    ),
    "webhook_delivery_has_its_fanout": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id
          FROM {rows} AS delivery
         WHERE NOT EXISTS (
               SELECT FROM webhooks_webhookfanout AS fanout
                WHERE fanout.organization_id = delivery.organization_id
                  AND fanout.event_id = delivery.event_id)
        """,
    ),
    "webhook_delivery_has_the_bytes_it_sends": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id
          FROM {rows} AS delivery
         WHERE NOT EXISTS (
               SELECT FROM webhooks_webhookbody AS body
                WHERE body.organization_id = delivery.organization_id
                  AND body.event_id = delivery.event_id
                  AND body.api_version = delivery.api_version)
        """,
    ),
    "webhook_delivery_due_has_a_lane_that_wakes": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id
          FROM {rows} AS delivery
          LEFT JOIN webhooks_webhooklane AS lane
            ON lane.organization_id = delivery.organization_id
           AND lane.endpoint_id = delivery.endpoint_id AND lane.lane = delivery.lane
         WHERE delivery.status = 'pending' AND (lane.id IS NULL OR lane.state = 'done')
           AND NOT EXISTS (
               SELECT FROM webhooks_webhookendpoint AS endpoint
                WHERE endpoint.organization_id = delivery.organization_id
                  AND endpoint.id = delivery.endpoint_id AND endpoint.is_changing)
        """,
    ),
    "webhook_delivery_succeeded_by_a_2xx_attempt": by_id(
        "webhooks_webhookdelivery",
        """
        SELECT delivery.organization_id, delivery.id
          FROM {rows} AS delivery
         WHERE delivery.status = 'succeeded'
           AND NOT EXISTS (
               SELECT FROM webhooks_webhookattempt AS attempt
                WHERE attempt.organization_id = delivery.organization_id
                  AND attempt.delivery_id = delivery.id
                  AND attempt.status_code BETWEEN 200 AND 299)
        """,
    ),
    # What an event changed is told by an event of ours, which is kept for 90 days.
    "inbound_event_applied_has_its_effect": by_id(
        "webhooks_inboundevent",
        """
        SELECT event.organization_id, event.id, event.effect_type, event.effect_id
          FROM {rows} AS event
         WHERE event.outcome = 'applied'
           AND event.decided_at > statement_timestamp() - interval '89 days'
           AND NOT EXISTS (
               SELECT FROM core_outbox_event AS told
                WHERE told.organization_id = event.organization_id
                  AND told.aggregate_type = event.effect_type
                  AND told.aggregate_type <> 'journal_entry'
                  AND told.aggregate_id = event.effect_id
                  AND told.sequence = event.effect_sequence)
        """,
    ),
    "inbound_events_take_an_object_only_forward": by_id(
        "webhooks_inboundevent",
        """
        SELECT event.organization_id, event.id, event.effect_id, event.rank, other.id AS other
          FROM {rows} AS event
          JOIN webhooks_inboundevent AS other
            ON other.organization_id = event.organization_id
           AND other.effect_id = event.effect_id AND other.effect_type = event.effect_type
           AND other.provider = event.provider AND other.outcome = 'applied'
         WHERE event.outcome = 'applied' AND other.id <> event.id
           AND other.effect_sequence <= event.effect_sequence AND other.rank >= event.rank
        """,
    ),
    "inbound_event_is_parked_for_three_days_at_most": """
        SELECT organization_id, id, received_at
          FROM webhooks_inboundevent
         WHERE state IN ('pending', 'leased') AND outcome = 'parked'
           AND received_at < statement_timestamp() - interval '74 hours'
    """,
}
