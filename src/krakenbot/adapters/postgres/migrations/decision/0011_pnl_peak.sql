-- The highest own profit and loss of all time: what a drawdown is counted from, also after a restart.

CREATE TABLE krakenbot.pnl_peaks (
    venue_id text PRIMARY KEY,
    peak_quote numeric NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- What the realised ledger says of the time before; it begins at zero.
INSERT INTO krakenbot.pnl_peaks (venue_id, peak_quote)
SELECT venue_id, greatest(0, max(total)) FROM (
    SELECT venue_id, sum(amount_quote) OVER (PARTITION BY venue_id ORDER BY at, pnl_no) AS total
    FROM krakenbot.realized_pnl
) AS running GROUP BY venue_id;

GRANT SELECT, INSERT, UPDATE ON krakenbot.pnl_peaks TO krakenbot_execution;

-- Who resets the latch of the drawdown accepts the loss: the peak is counted anew from there.
CREATE FUNCTION krakenbot.forget_peak() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = krakenbot, pg_temp AS $$
BEGIN
    DELETE FROM krakenbot.pnl_peaks;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_peak AFTER UPDATE ON krakenbot.engine_state FOR EACH ROW
    WHEN ('DRAWDOWN' = ANY (string_to_array(OLD.latch, ','))
        AND NOT 'DRAWDOWN' = ANY (coalesce(string_to_array(NEW.latch, ','), '{}')))
    EXECUTE FUNCTION krakenbot.forget_peak();
CREATE TRIGGER forget_peak_of_deleted AFTER DELETE ON krakenbot.engine_state FOR EACH ROW
    WHEN ('DRAWDOWN' = ANY (string_to_array(OLD.latch, ',')))
    EXECUTE FUNCTION krakenbot.forget_peak();
