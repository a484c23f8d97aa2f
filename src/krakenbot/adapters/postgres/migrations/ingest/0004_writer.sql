-- What the writer keeps beside its rows: which database this is, the last trade of each symbol, the fate of each gap of
-- trade ids, and what gave way, by range.

-- A spool on disk belongs to one database, and is never replayed into another.
CREATE TABLE krakenbot.ingest_identity (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    identity uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO krakenbot.ingest_identity DEFAULT VALUES;

CREATE TABLE krakenbot.trade_heads (
    symbol text PRIMARY KEY,
    trade_id bigint NOT NULL,
    at_ns bigint NOT NULL
) WITH (fillfactor = 50);

-- An ingest that is older than this table: what it stored is the start.
INSERT INTO krakenbot.trade_heads (symbol, trade_id, at_ns)
SELECT symbol, max(trade_id), max(at_ns) FROM krakenbot.trade_samples GROUP BY symbol;

ALTER TABLE krakenbot.trade_gaps
    ADD COLUMN since_ns bigint NOT NULL DEFAULT 0,
    ADD COLUMN still_missing int8multirange,
    ADD COLUMN refilled_from text;
UPDATE krakenbot.trade_gaps SET still_missing = CASE
    WHEN refilled_at IS NULL THEN int8multirange(int8range(first_trade_id, last_trade_id, '[]')) ELSE '{}' END;
ALTER TABLE krakenbot.trade_gaps ALTER COLUMN still_missing SET NOT NULL;
CREATE INDEX ON krakenbot.trade_gaps (noticed_at) WHERE refilled_at IS NULL;

-- Periodic samples that are not in their table, counted by kind and cause, with the range of their times.
CREATE TABLE krakenbot.sample_losses (
    run_id bigint NOT NULL,
    kind text NOT NULL,
    cause text NOT NULL,
    first_at_ns bigint NOT NULL,
    last_at_ns bigint NOT NULL,
    samples bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON krakenbot.sample_losses (run_id);

GRANT SELECT ON krakenbot.ingest_identity TO krakenbot_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON krakenbot.trade_heads, krakenbot.sample_losses TO krakenbot_ingest;
