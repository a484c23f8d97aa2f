-- Queue probes: hypothetical orders followed through the real L3 feed. Never orders, never positions, never PnL.

CREATE TABLE krakenbot.queue_probes (
    venue_id text NOT NULL,
    lineage_id bigint NOT NULL,
    probe_no bigint NOT NULL,
    symbol text NOT NULL,
    symbol_group text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('join', 'improve')),
    side text NOT NULL CHECK (side IN ('buy', 'sell')),
    price double precision NOT NULL CHECK (price > 0),
    size_quote double precision NOT NULL CHECK (size_quote > 0),
    spread_bps double precision NOT NULL,
    queue_bucket text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    rest_s double precision NOT NULL CHECK (rest_s >= 0),
    -- ends of the competing risks; censored is what could not be followed to its end
    end_cause text NOT NULL CHECK (end_cause IN ('consumed', 'swept', 'away', 'timeout', 'censored')),
    end_reason text NOT NULL,
    -- seconds from the start to the first volume; NULL when none came
    first_fill_s double precision,
    filled_share double precision NOT NULL CHECK (filled_share BETWEEN 0 AND 1),
    -- volume ahead at the start, and why it changed until the end; amended is net, below 0 when orders ahead grew
    ahead_orders bigint NOT NULL,
    ahead_quote double precision NOT NULL,
    traded_quote double precision NOT NULL,
    cancelled_quote double precision NOT NULL,
    amended_quote double precision NOT NULL,
    unexplained_quote double precision NOT NULL,
    -- NULL: no fill, or no valid book at that time
    markout_1s_bps double precision,
    markout_5s_bps double precision,
    markout_30s_bps double precision,
    markout_300s_bps double precision,
    markout_1800s_bps double precision,
    CONSTRAINT queue_probes_pkey PRIMARY KEY (venue_id, lineage_id, probe_no, ended_at)
) PARTITION BY RANGE (ended_at);
CREATE INDEX ON krakenbot.queue_probes (venue_id, ended_at);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON krakenbot.queue_probes
    FOR EACH ROW EXECUTE FUNCTION krakenbot.refuse_change();

-- Make the partition of a UTC day; harmless when it exists.
CREATE FUNCTION krakenbot.ensure_probe_partition(p_day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    child text := format('queue_probes_%s', to_char(p_day, 'YYYYMMDD'));
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.probe_partitions'));
    IF to_regclass('krakenbot.' || child) IS NULL THEN
        EXECUTE format('CREATE TABLE krakenbot.%I PARTITION OF krakenbot.queue_probes FOR VALUES FROM (%L) TO (%L)',
                       child, p_day::timestamptz, (p_day + 1)::timestamptz);
    END IF;
END $$;

-- Drop the partitions of the days before a day; returns how many.
CREATE FUNCTION krakenbot.drop_probe_partitions(p_before date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    child text;
    dropped bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.probe_partitions'));
    FOR child IN
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'krakenbot.queue_probes'::regclass
          AND to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') < p_before
    LOOP
        EXECUTE 'DROP TABLE ' || child;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION krakenbot.ensure_probe_partition(date), krakenbot.drop_probe_partitions(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION krakenbot.ensure_probe_partition(date), krakenbot.drop_probe_partitions(date)
    TO krakenbot_ingest;
GRANT SELECT, INSERT ON krakenbot.queue_probes TO krakenbot_ingest;
GRANT SELECT ON krakenbot.queue_probes TO krakenbot_execution;

CREATE VIEW krakenbot.status_probes AS
    SELECT venue_id, symbol_group, kind, side, queue_bucket, end_cause, count(*) AS probes, avg(rest_s) AS rest_s
    FROM krakenbot.queue_probes WHERE ended_at > now() - interval '1 day'
    GROUP BY venue_id, symbol_group, kind, side, queue_bucket, end_cause;
GRANT SELECT ON krakenbot.status_probes TO krakenbot_status;
