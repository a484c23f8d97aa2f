-- The rest of the features of domain.state.symbol_state.SymbolState.

ALTER TABLE krakenbot.run_symbol_state
    ADD COLUMN drift_bps_per_min double precision,
    ADD COLUMN ofi_base double precision,
    ADD COLUMN bid_queue_base double precision,
    ADD COLUMN ask_queue_base double precision,
    ADD COLUMN ask_mean_age_s double precision,
    ADD COLUMN ask_largest_share double precision,
    ADD COLUMN bid_markout_300s_bps double precision,
    ADD COLUMN bid_markout_1800s_bps double precision,
    ADD COLUMN ask_markout_300s_bps double precision,
    ADD COLUMN ask_markout_1800s_bps double precision,
    ADD COLUMN gap_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN trade_gaps bigint NOT NULL DEFAULT 0;

CREATE OR REPLACE VIEW krakenbot.status_symbol_state AS SELECT * FROM krakenbot.run_symbol_state;
