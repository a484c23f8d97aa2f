-- Modes, the lease, refresh requests, instruments, cycles and the status of processes.

CREATE TABLE krakenbot.engine_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    mode text NOT NULL,
    reason text NOT NULL,
    since timestamptz,
    latch text
);

CREATE TABLE krakenbot.symbol_safety_state (
    symbol text PRIMARY KEY,
    mode text NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz
);

CREATE TABLE krakenbot.leases (
    name text PRIMARY KEY,
    holder text,
    lease_epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
INSERT INTO krakenbot.leases (name, holder, lease_epoch, expires_at) VALUES ('execution', NULL, 0, 'epoch');

CREATE FUNCTION krakenbot.guard_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.lease_epoch < OLD.lease_epoch THEN
        RAISE EXCEPTION 'lease_epoch % after %', NEW.lease_epoch, OLD.lease_epoch
            USING ERRCODE = 'check_violation', CONSTRAINT = 'leases_epoch', TABLE = 'leases';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_lease BEFORE UPDATE ON krakenbot.leases FOR EACH ROW EXECUTE FUNCTION krakenbot.guard_lease();

CREATE TABLE krakenbot.refresh_requests (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requested_at timestamptz NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    generation_id bigint,
    answered_at timestamptz
);
CREATE INDEX refresh_requests_open ON krakenbot.refresh_requests (request_id) WHERE generation_id IS NULL;

CREATE TABLE krakenbot.instruments (
    symbol text PRIMARY KEY,
    base text NOT NULL,
    quote text NOT NULL,
    status text NOT NULL,
    price_precision integer NOT NULL,
    qty_precision integer NOT NULL,
    cost_precision integer NOT NULL,
    price_increment numeric NOT NULL,
    qty_increment numeric NOT NULL,
    qty_min numeric NOT NULL,
    cost_min numeric NOT NULL,
    has_index boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE krakenbot.decision_cycles (
    at timestamptz NOT NULL,
    generation_id bigint,
    epoch_id bigint,
    funnel jsonb NOT NULL,
    blockers jsonb NOT NULL,
    duration_s double precision NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX ON krakenbot.decision_cycles (at);

CREATE TABLE krakenbot.decision_outcomes (
    at timestamptz NOT NULL,
    symbol text NOT NULL,
    code text NOT NULL,
    value double precision,
    limit_value double precision,
    unit text NOT NULL,
    detail text NOT NULL,
    clears_when text NOT NULL,
    since timestamptz NOT NULL,
    record jsonb
) PARTITION BY RANGE (at);
CREATE INDEX ON krakenbot.decision_outcomes (symbol, at);

CREATE TABLE krakenbot.process_status (
    process text PRIMARY KEY,
    at timestamptz NOT NULL,
    body jsonb NOT NULL
);

-- Make the partitions of a UTC day; harmless when they exist.
CREATE FUNCTION krakenbot.ensure_day_partitions(p_day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.partitions'));
    FOREACH parent IN ARRAY ARRAY['decision_cycles', 'decision_outcomes'] LOOP
        child := format('%s_%s', parent, to_char(p_day, 'YYYYMMDD'));
        IF to_regclass('krakenbot.' || child) IS NULL THEN
            EXECUTE format('CREATE TABLE krakenbot.%I PARTITION OF krakenbot.%I FOR VALUES FROM (%L) TO (%L)',
                           child, parent, p_day::timestamptz, (p_day + 1)::timestamptz);
        END IF;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION krakenbot.ensure_day_partitions(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION krakenbot.ensure_day_partitions(date) TO krakenbot_execution;

GRANT SELECT, INSERT, UPDATE ON
    krakenbot.engine_state, krakenbot.symbol_safety_state, krakenbot.process_status TO krakenbot_execution;
GRANT SELECT, UPDATE ON krakenbot.leases TO krakenbot_execution;
GRANT SELECT, INSERT ON
    krakenbot.refresh_requests, krakenbot.decision_cycles, krakenbot.decision_outcomes TO krakenbot_execution;
GRANT SELECT ON krakenbot.instruments TO krakenbot_execution;
GRANT SELECT, UPDATE, DELETE ON krakenbot.refresh_requests TO krakenbot_ingest;
GRANT SELECT, INSERT, UPDATE ON krakenbot.instruments, krakenbot.process_status TO krakenbot_ingest;

CREATE VIEW krakenbot.status_engine AS SELECT mode, reason, since, latch FROM krakenbot.engine_state;
CREATE VIEW krakenbot.status_safety AS SELECT * FROM krakenbot.symbol_safety_state;
CREATE VIEW krakenbot.status_leases AS SELECT * FROM krakenbot.leases;
CREATE VIEW krakenbot.status_requests AS SELECT * FROM krakenbot.refresh_requests;
CREATE VIEW krakenbot.status_instruments AS SELECT * FROM krakenbot.instruments;
CREATE VIEW krakenbot.status_cycles AS SELECT * FROM krakenbot.decision_cycles;
CREATE VIEW krakenbot.status_outcomes AS SELECT * FROM krakenbot.decision_outcomes;
CREATE VIEW krakenbot.status_processes AS SELECT * FROM krakenbot.process_status;
GRANT SELECT ON
    krakenbot.status_engine, krakenbot.status_safety, krakenbot.status_leases, krakenbot.status_requests,
    krakenbot.status_instruments, krakenbot.status_cycles, krakenbot.status_outcomes, krakenbot.status_processes
    TO krakenbot_status;
