-- Called after each INSERT or UPDATE of attempts, with the rows as they are now in "written".
-- What is not rejected, returned or never sent may not claim more than the payout's amount. The
-- operation holds the payout's row lock, so no other attempt of it appears meanwhile.
SELECT payout.id, sum(attempt.amount_minor) AS claimed, payout.amount_minor AS whole INTO excess
  FROM (SELECT DISTINCT organization_id, payout_id FROM written) touched
  JOIN payouts_payout payout
    ON payout.organization_id = touched.organization_id AND payout.id = touched.payout_id
  JOIN payouts_attempt attempt
    ON attempt.organization_id = payout.organization_id AND attempt.payout_id = payout.id
 WHERE attempt.state NOT IN ('rejected', 'returned', 'not_sent')
 GROUP BY payout.id, payout.amount_minor
HAVING sum(attempt.amount_minor) > payout.amount_minor
 LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION 'attempts of payout % claim % of %', excess.id, excess.claimed, excess.whole
        USING ERRCODE = 'check_violation', CONSTRAINT = 'live_attempts_fit_their_payout';
END IF;
RETURN NULL;
