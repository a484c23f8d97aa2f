-- Orders, fills, positions: a row before every order, events and fills append-only, terminal states never left.

CREATE TABLE krakenbot.execution_orders (
    cl_ord_id text PRIMARY KEY,
    venue_id text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    role text NOT NULL CHECK (role IN ('entry', 'protective_stop', 'take_profit', 'market_exit')),
    order_type text NOT NULL,
    qty numeric NOT NULL CHECK (qty > 0),
    limit_price numeric CHECK (limit_price > 0),
    trigger_price numeric CHECK (trigger_price > 0),
    trigger text,
    post_only boolean NOT NULL,
    state text NOT NULL CHECK (state IN (
        'pending_submit', 'submitted', 'unknown', 'acked', 'open', 'partially_filled', 'pending_amend',
        'pending_cancel', 'filled', 'canceled', 'expired', 'rejected', 'never_accepted')),
    created_at timestamptz NOT NULL,
    deadline_at timestamptz,
    expire_at timestamptz,
    parent_id text REFERENCES krakenbot.execution_orders,
    exit_kind text,
    venue_order_id text,
    cum_qty numeric NOT NULL CHECK (cum_qty >= 0),
    state_at timestamptz,
    reason text NOT NULL,
    record jsonb NOT NULL,
    regime text GENERATED ALWAYS AS (record ->> 'regime') STORED,
    lineage_id bigint,
    epoch_id bigint,
    generation_id bigint,
    lease_epoch bigint NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT execution_orders_entry_is_explained CHECK (role <> 'entry' OR (
        side = 'buy' AND regime IS NOT NULL AND record <> '{}' AND limit_price IS NOT NULL
        AND lineage_id IS NOT NULL AND epoch_id IS NOT NULL AND generation_id IS NOT NULL)),
    CONSTRAINT execution_orders_exit_only_sells CHECK (role = 'entry' OR side = 'sell')
);
CREATE INDEX execution_orders_alive ON krakenbot.execution_orders (venue_id)
    WHERE state NOT IN ('filled', 'canceled', 'expired', 'rejected', 'never_accepted');
CREATE INDEX execution_orders_entries ON krakenbot.execution_orders (created_at) WHERE role = 'entry';
CREATE INDEX execution_orders_venue_order ON krakenbot.execution_orders (venue_id, venue_order_id);

CREATE TABLE krakenbot.execution_order_events (
    event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cl_ord_id text NOT NULL REFERENCES krakenbot.execution_orders,
    at timestamptz NOT NULL,
    event text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    detail jsonb NOT NULL
);
CREATE INDEX ON krakenbot.execution_order_events (cl_ord_id);

CREATE TABLE krakenbot.fills (
    exec_id text NOT NULL,
    cl_ord_id text NOT NULL REFERENCES krakenbot.execution_orders,
    venue_order_id text NOT NULL,
    venue_id text NOT NULL,
    symbol text NOT NULL,
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    price numeric NOT NULL CHECK (price > 0),
    qty numeric NOT NULL CHECK (qty > 0),
    cost numeric NOT NULL,
    fee_asset text NOT NULL,
    fee_qty numeric NOT NULL,
    is_maker boolean NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    source text NOT NULL,
    CONSTRAINT fills_pkey PRIMARY KEY (venue_id, exec_id)
);
CREATE INDEX ON krakenbot.fills (at);
CREATE INDEX ON krakenbot.fills (cl_ord_id);

CREATE TABLE krakenbot.positions (
    venue_id text NOT NULL,
    symbol text NOT NULL,
    qty numeric NOT NULL,
    cost_quote numeric NOT NULL,
    realized_quote numeric NOT NULL,
    opened_at timestamptz,
    entry_id text REFERENCES krakenbot.execution_orders,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (venue_id, symbol)
);

CREATE TABLE krakenbot.realized_pnl (
    pnl_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue_id text NOT NULL,
    symbol text NOT NULL,
    entry_id text,
    amount_quote numeric NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX ON krakenbot.realized_pnl (at);

CREATE TABLE krakenbot.protection_events (
    event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue_id text NOT NULL,
    symbol text NOT NULL,
    at timestamptz NOT NULL,
    protection text NOT NULL,
    position_qty numeric NOT NULL,
    protected_qty numeric NOT NULL,
    reason text NOT NULL
);
CREATE INDEX ON krakenbot.protection_events (symbol, at);

CREATE TABLE krakenbot.account_snapshots (
    snapshot_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue_id text NOT NULL,
    at timestamptz NOT NULL,
    balances jsonb NOT NULL
);

CREATE TABLE krakenbot.equity_samples (
    venue_id text NOT NULL,
    at timestamptz NOT NULL,
    equity_quote numeric NOT NULL,
    PRIMARY KEY (venue_id, at)
);

CREATE TABLE krakenbot.markouts (
    venue_id text NOT NULL,
    exec_id text NOT NULL,
    horizon_s double precision NOT NULL,
    markout_bps double precision NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (venue_id, exec_id, horizon_s)
);

CREATE FUNCTION krakenbot.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_append_only', TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON krakenbot.execution_order_events
    FOR EACH STATEMENT EXECUTE FUNCTION krakenbot.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON krakenbot.fills
    FOR EACH STATEMENT EXECUTE FUNCTION krakenbot.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON krakenbot.realized_pnl
    FOR EACH STATEMENT EXECUTE FUNCTION krakenbot.refuse_change();

CREATE FUNCTION krakenbot.guard_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state
       AND OLD.state IN ('filled', 'canceled', 'expired', 'rejected', 'never_accepted') THEN
        RAISE EXCEPTION 'order % is % and stays so, not %', OLD.cl_ord_id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'execution_orders_terminal', TABLE = 'execution_orders';
    END IF;
    IF NEW.cum_qty < OLD.cum_qty THEN
        RAISE EXCEPTION 'order %: cum_qty % after %', OLD.cl_ord_id, NEW.cum_qty, OLD.cum_qty
            USING ERRCODE = 'check_violation', CONSTRAINT = 'execution_orders_cum_qty', TABLE = 'execution_orders';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_order BEFORE UPDATE ON krakenbot.execution_orders
    FOR EACH ROW EXECUTE FUNCTION krakenbot.guard_order();

GRANT SELECT, INSERT, UPDATE ON krakenbot.execution_orders, krakenbot.positions TO krakenbot_execution;
GRANT SELECT, INSERT ON
    krakenbot.execution_order_events, krakenbot.fills, krakenbot.realized_pnl, krakenbot.protection_events,
    krakenbot.account_snapshots, krakenbot.equity_samples, krakenbot.markouts
    TO krakenbot_execution;
-- Ingest pins the symbols that have an order or a position.
GRANT SELECT ON krakenbot.execution_orders, krakenbot.positions TO krakenbot_ingest;

CREATE VIEW krakenbot.status_orders AS SELECT * FROM krakenbot.execution_orders;
CREATE VIEW krakenbot.status_order_events AS SELECT * FROM krakenbot.execution_order_events;
CREATE VIEW krakenbot.status_fills AS SELECT * FROM krakenbot.fills;
CREATE VIEW krakenbot.status_positions AS SELECT * FROM krakenbot.positions;
CREATE VIEW krakenbot.status_realized_pnl AS SELECT * FROM krakenbot.realized_pnl;
CREATE VIEW krakenbot.status_protection AS SELECT * FROM krakenbot.protection_events;
CREATE VIEW krakenbot.status_equity AS SELECT * FROM krakenbot.equity_samples;
GRANT SELECT ON
    krakenbot.status_orders, krakenbot.status_order_events, krakenbot.status_fills, krakenbot.status_positions,
    krakenbot.status_realized_pnl, krakenbot.status_protection, krakenbot.status_equity
    TO krakenbot_status;
