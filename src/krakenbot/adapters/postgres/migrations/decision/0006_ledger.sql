-- Up to where own fills, the venue's ledger and the balances tied out, and what was named on the way.

CREATE TABLE krakenbot.ledger_cursors (
    venue_id text PRIMARY KEY,
    at timestamptz NOT NULL,
    -- asset to exact text; ids of entries that were counted and may be shown again
    balances jsonb NOT NULL,
    counted jsonb NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE krakenbot.ledger_differences (
    difference_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue_id text NOT NULL,
    at timestamptz NOT NULL,
    cause text NOT NULL,
    asset text NOT NULL,
    amount numeric NOT NULL,
    entries bigint NOT NULL CHECK (entries > 0),
    detail text NOT NULL
);
CREATE INDEX ON krakenbot.ledger_differences (venue_id, at);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON krakenbot.ledger_differences
    FOR EACH STATEMENT EXECUTE FUNCTION krakenbot.refuse_change();

GRANT SELECT, INSERT, UPDATE ON krakenbot.ledger_cursors TO krakenbot_execution;
GRANT SELECT, INSERT ON krakenbot.ledger_differences TO krakenbot_execution;

CREATE VIEW krakenbot.status_ledger AS SELECT venue_id, at, balances, written_at FROM krakenbot.ledger_cursors;
CREATE VIEW krakenbot.status_ledger_differences AS SELECT * FROM krakenbot.ledger_differences;
GRANT SELECT ON krakenbot.status_ledger, krakenbot.status_ledger_differences TO krakenbot_status;
