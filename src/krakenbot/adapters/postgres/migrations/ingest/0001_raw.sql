-- Raw samples, one partition per run, and what the refresh keeps between two calls. Times are ns since 1970.

CREATE SEQUENCE krakenbot.lineage_id_seq;
CREATE SEQUENCE krakenbot.run_id_seq;
CREATE SEQUENCE krakenbot.epoch_id_seq;
CREATE SEQUENCE krakenbot.generation_id_seq;
CREATE SEQUENCE krakenbot.copy_writer_id_seq;

CREATE TABLE krakenbot.ticker_samples (
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    at_ns bigint NOT NULL,
    received_at_ns bigint NOT NULL,
    bid double precision NOT NULL,
    ask double precision NOT NULL,
    last double precision NOT NULL,
    volume_24h double precision NOT NULL
) PARTITION BY RANGE (run_id);
CREATE INDEX ON krakenbot.ticker_samples (symbol, received_at_ns);

CREATE TABLE krakenbot.trade_samples (
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    trade_id bigint NOT NULL,
    side text NOT NULL,
    price numeric NOT NULL,
    qty numeric NOT NULL,
    at_ns bigint NOT NULL,
    received_at_ns bigint NOT NULL,
    PRIMARY KEY (run_id, symbol, trade_id)
) PARTITION BY RANGE (run_id);
CREATE INDEX ON krakenbot.trade_samples (symbol, at_ns);

CREATE TABLE krakenbot.l2_snap_metrics (
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    at_ns bigint NOT NULL,
    bid double precision NOT NULL,
    ask double precision NOT NULL,
    bid_qty double precision NOT NULL,
    ask_qty double precision NOT NULL,
    mid double precision NOT NULL,
    spread_bps double precision NOT NULL,
    microprice_dev_bps double precision NOT NULL,
    imbalance_5 double precision NOT NULL,
    bid_depth_10_quote double precision NOT NULL,
    bid_depth_25_quote double precision NOT NULL,
    bid_depth_50_quote double precision NOT NULL,
    ask_depth_10_quote double precision NOT NULL,
    ask_depth_25_quote double precision NOT NULL,
    ask_depth_50_quote double precision NOT NULL,
    ofi double precision NOT NULL,
    updates bigint NOT NULL,
    crossed_s double precision NOT NULL,
    invalid_s double precision NOT NULL
) PARTITION BY RANGE (run_id);
CREATE INDEX ON krakenbot.l2_snap_metrics (at_ns);

CREATE TABLE krakenbot.l3_queue_metrics (
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    at_ns bigint NOT NULL,
    bid_volume double precision NOT NULL,
    bid_orders bigint NOT NULL,
    bid_notional double precision NOT NULL,
    ask_volume double precision NOT NULL,
    ask_orders bigint NOT NULL,
    ask_notional double precision NOT NULL,
    bid_added double precision NOT NULL,
    bid_removed double precision NOT NULL,
    ask_added double precision NOT NULL,
    ask_removed double precision NOT NULL,
    bid_mean_age_s double precision NOT NULL,
    ask_mean_age_s double precision NOT NULL,
    bid_largest_share double precision NOT NULL,
    ask_largest_share double precision NOT NULL
) PARTITION BY RANGE (run_id);
CREATE INDEX ON krakenbot.l3_queue_metrics (at_ns);

CREATE TABLE krakenbot.run_symbols (
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    PRIMARY KEY (run_id, symbol)
);

CREATE TABLE krakenbot.trade_gaps (
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    first_trade_id bigint NOT NULL,
    last_trade_id bigint NOT NULL,
    cause text NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    refilled_at timestamptz,
    PRIMARY KEY (run_id, symbol, first_trade_id)
);

-- The number of the last batch that each writer committed: a batch whose commit is in doubt is looked up here.
CREATE TABLE krakenbot.copy_batches (
    writer_id bigint PRIMARY KEY,
    batch_no bigint NOT NULL,
    written_at timestamptz NOT NULL
);

-- Whole UTC minutes, folded once from raw rows.
CREATE TABLE krakenbot.feature_buckets (
    lineage_id bigint NOT NULL,
    symbol text NOT NULL,
    minute bigint NOT NULL,
    spread_bps double precision NOT NULL,
    sigma_bps double precision,
    PRIMARY KEY (lineage_id, symbol, minute)
);

CREATE TABLE krakenbot.symbol_norms (
    lineage_id bigint NOT NULL,
    symbol text NOT NULL,
    sigma_norm_bps double precision,
    sigma_mad_bps double precision,
    spread_norm_bps double precision,
    spread_mad_bps double precision,
    norm_minutes bigint NOT NULL,
    PRIMARY KEY (lineage_id, symbol)
);

CREATE TABLE krakenbot.refresh_watermarks (
    lineage_id bigint NOT NULL,
    source text NOT NULL,
    minute bigint NOT NULL,
    PRIMARY KEY (lineage_id, source)
);

-- Make the partitions of a run; harmless when they exist.
CREATE FUNCTION krakenbot.ensure_run_partitions(p_run bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp AS $$
DECLARE
    parent text;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.partitions'));
    FOREACH parent IN ARRAY ARRAY['ticker_samples', 'trade_samples', 'l2_snap_metrics', 'l3_queue_metrics'] LOOP
        child := format('%s_r%s', parent, p_run);
        IF to_regclass('krakenbot.' || child) IS NULL THEN
            EXECUTE format('CREATE TABLE krakenbot.%I PARTITION OF krakenbot.%I FOR VALUES FROM (%s) TO (%s)',
                           child, parent, p_run, p_run + 1);
        END IF;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION krakenbot.ensure_run_partitions(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION krakenbot.ensure_run_partitions(bigint) TO krakenbot_ingest;

GRANT SELECT, INSERT ON
    krakenbot.ticker_samples, krakenbot.trade_samples, krakenbot.l2_snap_metrics, krakenbot.l3_queue_metrics
    TO krakenbot_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    krakenbot.run_symbols, krakenbot.trade_gaps, krakenbot.copy_batches, krakenbot.feature_buckets,
    krakenbot.symbol_norms, krakenbot.refresh_watermarks
    TO krakenbot_ingest;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA krakenbot TO krakenbot_ingest;
