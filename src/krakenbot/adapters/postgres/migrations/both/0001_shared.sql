-- Tables that both databases hold. Run and lineage rows are written first: epochs refer to them.

CREATE TABLE krakenbot.ingest_lineage (
    lineage_id bigint PRIMARY KEY,
    created_at timestamptz NOT NULL
);

CREATE TABLE krakenbot.observation_runs (
    run_id bigint PRIMARY KEY,
    lineage_id bigint NOT NULL REFERENCES krakenbot.ingest_lineage,
    started_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX ON krakenbot.observation_runs (lineage_id);

CREATE TABLE krakenbot.ingest_epochs (
    epoch_id bigint PRIMARY KEY,
    lineage_id bigint NOT NULL REFERENCES krakenbot.ingest_lineage,
    run_id bigint NOT NULL REFERENCES krakenbot.observation_runs,
    status text NOT NULL CHECK (status IN ('valid', 'degraded', 'invalid')),
    created_at timestamptz NOT NULL,
    criteria jsonb NOT NULL,
    reasons text[] NOT NULL
);
CREATE INDEX ON krakenbot.ingest_epochs (lineage_id, epoch_id);

CREATE TABLE krakenbot.execution_universe_snapshots (
    epoch_id bigint PRIMARY KEY REFERENCES krakenbot.ingest_epochs,
    execution text[] NOT NULL,
    l3 text[] NOT NULL,
    pinned text[] NOT NULL
);

-- Columns in the order of domain.state.symbol_state.SymbolState; a test compares them.
CREATE TABLE krakenbot.run_symbol_state (
    lineage_id bigint NOT NULL,
    run_id bigint NOT NULL,
    symbol text NOT NULL,
    generation_id bigint NOT NULL,
    computed_at timestamptz NOT NULL,
    bid double precision,
    ask double precision,
    mid double precision,
    spread_bps double precision,
    spread_p50_bps double precision,
    spread_p90_bps double precision,
    microprice_dev_bps double precision,
    imbalance_5 double precision,
    bid_depth_10_quote double precision,
    bid_depth_25_quote double precision,
    bid_depth_50_quote double precision,
    ask_depth_10_quote double precision,
    ask_depth_25_quote double precision,
    ask_depth_50_quote double precision,
    sigma_bps_sqrt_min double precision,
    bipower_sigma_bps_sqrt_min double precision,
    drift_t double precision,
    jumps bigint,
    return_long_bps double precision,
    trades_per_min double precision,
    buy_volume_quote double precision,
    sell_volume_quote double precision,
    ofi_z double precision,
    trade_size_mean_quote double precision,
    trade_size_m2_quote double precision,
    sell_to_bid_per_s_quote double precision,
    buy_to_ask_per_s_quote double precision,
    bid_queue_quote double precision,
    bid_queue_orders bigint,
    ask_queue_quote double precision,
    ask_queue_orders bigint,
    bid_add_per_s_quote double precision,
    bid_cancel_per_s_quote double precision,
    ask_add_per_s_quote double precision,
    ask_cancel_per_s_quote double precision,
    bid_mean_age_s double precision,
    bid_largest_share double precision,
    bid_markout_5s_bps double precision,
    bid_markout_30s_bps double precision,
    ask_markout_5s_bps double precision,
    ask_markout_30s_bps double precision,
    bid_markout_count bigint NOT NULL,
    ask_markout_count bigint NOT NULL,
    sigma_norm_bps double precision,
    sigma_mad_bps double precision,
    spread_norm_bps double precision,
    spread_mad_bps double precision,
    norm_minutes bigint NOT NULL,
    l2_samples bigint NOT NULL,
    l3_samples bigint NOT NULL,
    trades bigint NOT NULL,
    l2_age_s double precision,
    l3_age_s double precision,
    ticker_age_s double precision,
    trade_age_s double precision,
    crossed_s double precision NOT NULL,
    invalid_s double precision NOT NULL,
    volume_24h_quote double precision,
    feature_complete boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (lineage_id, symbol)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX ON krakenbot.run_symbol_state (generation_id);

-- One row per generation that was written whole. Old ones are pruned by the writer.
CREATE TABLE krakenbot.state_generations (
    generation_id bigint PRIMARY KEY,
    lineage_id bigint NOT NULL,
    run_id bigint NOT NULL,
    computed_at timestamptz NOT NULL,
    symbols integer NOT NULL
);

GRANT USAGE ON SCHEMA krakenbot TO krakenbot_ingest, krakenbot_execution, krakenbot_status;
GRANT SELECT ON krakenbot.schema_migrations TO krakenbot_ingest, krakenbot_execution, krakenbot_status;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    krakenbot.ingest_lineage, krakenbot.observation_runs, krakenbot.ingest_epochs,
    krakenbot.execution_universe_snapshots, krakenbot.run_symbol_state, krakenbot.state_generations
    TO krakenbot_ingest;
GRANT SELECT ON
    krakenbot.ingest_lineage, krakenbot.observation_runs, krakenbot.ingest_epochs,
    krakenbot.execution_universe_snapshots, krakenbot.run_symbol_state, krakenbot.state_generations
    TO krakenbot_execution;

CREATE VIEW krakenbot.status_epochs AS
    SELECT e.*, u.execution, u.l3, u.pinned
    FROM krakenbot.ingest_epochs e LEFT JOIN krakenbot.execution_universe_snapshots u USING (epoch_id);
CREATE VIEW krakenbot.status_generations AS SELECT * FROM krakenbot.state_generations;
CREATE VIEW krakenbot.status_symbol_state AS SELECT * FROM krakenbot.run_symbol_state;
GRANT SELECT ON krakenbot.status_epochs, krakenbot.status_generations, krakenbot.status_symbol_state
    TO krakenbot_status;
