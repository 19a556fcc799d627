"""SQL that must return no row, by the name of what it holds to."""

from typing import Final

INVARIANTS: Final = {
    "webhook_fanout_count_is_its_deliveries": """
        SELECT fanout.organization_id, fanout.event_id, fanout.delivery_count, count(delivery.id)
          FROM webhooks_webhookfanout AS fanout
          LEFT JOIN webhooks_webhookdelivery AS delivery
            ON delivery.organization_id = fanout.organization_id
           AND delivery.event_id = fanout.event_id
         GROUP BY fanout.organization_id, fanout.event_id, fanout.delivery_count
        HAVING count(delivery.id) <> fanout.delivery_count
    """,
    "webhook_delivery_has_its_fanout": """
        SELECT delivery.organization_id, delivery.id
          FROM webhooks_webhookdelivery AS delivery
         WHERE NOT EXISTS (
               SELECT FROM webhooks_webhookfanout AS fanout
                WHERE fanout.organization_id = delivery.organization_id
                  AND fanout.event_id = delivery.event_id)
    """,
    "webhook_event_for_an_endpoint_is_owed_to_it": """
        SELECT event.organization_id, event.id, endpoint.id
          FROM core_event_work AS worked
          JOIN core_outbox_event AS event
            ON event.organization_id = worked.organization_id
           AND event.batch_id = worked.batch_id AND event.public
           AND (worked.ordinal IS NULL OR worked.ordinal = event.ordinal)
          JOIN webhooks_webhookendpoint AS endpoint
            ON endpoint.organization_id = event.organization_id
           AND endpoint.created_at <= event.recorded_at AND endpoint.status <> 'deleted'
           AND endpoint.event_types = ARRAY['*']::varchar[]
         WHERE worked.consumer = 'webhooks' AND worked.state = 'done'
           AND event.type NOT LIKE 'webhook%'
           AND (worked.ordinal IS NOT NULL OR NOT EXISTS (
               SELECT FROM core_event_work AS apart
                WHERE apart.organization_id = worked.organization_id
                  AND apart.batch_id = worked.batch_id AND apart.consumer = worked.consumer
                  AND apart.ordinal = event.ordinal AND apart.state <> 'done'))
           AND NOT EXISTS (
               SELECT FROM webhooks_webhookdelivery AS delivery
                WHERE delivery.organization_id = event.organization_id
                  AND delivery.event_id = event.id AND delivery.endpoint_id = endpoint.id)
    """,
    "webhook_delivery_succeeded_by_a_2xx_attempt": """
        SELECT delivery.organization_id, delivery.id
          FROM webhooks_webhookdelivery AS delivery
         WHERE delivery.status = 'succeeded'
           AND NOT EXISTS (
               SELECT FROM webhooks_webhookattempt AS attempt
                WHERE attempt.organization_id = delivery.organization_id
                  AND attempt.delivery_id = delivery.id
                  AND attempt.status_code BETWEEN 200 AND 299)
    """,
    "webhook_delivery_has_the_bytes_it_sends": """
        SELECT delivery.organization_id, delivery.id
          FROM webhooks_webhookdelivery AS delivery
         WHERE NOT EXISTS (
               SELECT FROM webhooks_webhookbody AS body
                WHERE body.organization_id = delivery.organization_id
                  AND body.event_id = delivery.event_id
                  AND body.api_version = delivery.api_version)
    """,
    "webhook_delivery_due_has_a_lane_that_wakes": """
        SELECT delivery.organization_id, delivery.id
          FROM webhooks_webhookdelivery AS delivery
          LEFT JOIN webhooks_webhooklane AS lane
            ON lane.organization_id = delivery.organization_id
           AND lane.endpoint_id = delivery.endpoint_id AND lane.lane = delivery.lane
         WHERE delivery.status = 'pending'
           AND (lane.id IS NULL OR lane.state NOT IN ('pending', 'leased'))
    """,
    "webhook_lane_is_not_overdue": """
        SELECT organization_id, id, next_attempt_at
          FROM webhooks_webhooklane
         WHERE state IN ('pending', 'leased')
           AND next_attempt_at < clock_timestamp() - interval '120 seconds'
    """,
    "webhook_lane_sends_what_it_owes": """
        SELECT lane.organization_id, lane.id, lane.last_error_code
          FROM webhooks_webhooklane AS lane
          JOIN webhooks_webhookdelivery AS delivery
            ON delivery.organization_id = lane.organization_id
           AND delivery.endpoint_id = lane.endpoint_id AND delivery.lane = lane.lane
         WHERE lane.state IN ('pending', 'leased') AND lane.last_error_code <> ''
           AND delivery.status = 'pending'
           AND delivery.next_attempt_at < clock_timestamp() - interval '120 seconds'
    """,
    "webhook_delivery_waits_for_its_receiver_alone": """
        SELECT delivery.organization_id, delivery.id, delivery.last_outcome
          FROM webhooks_webhookdelivery AS delivery
         WHERE delivery.status IN ('pending', 'paused')
           AND delivery.last_outcome IN ('no_body', 'internal_error')
    """,
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
}
