-- Differences between ledger and balance that a person has accepted: who, why, and whether execution found them so.

CREATE TABLE krakenbot.ledger_acceptances (
    acceptance_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue_id text NOT NULL,
    asset text NOT NULL,
    amount numeric NOT NULL,
    who text NOT NULL CHECK (who <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- none: execution has not looked yet; false: it found another difference, or none
    is_applied boolean,
    settled_at timestamptz,
    CHECK ((is_applied IS NULL) = (settled_at IS NULL))
);
CREATE INDEX ON krakenbot.ledger_acceptances (venue_id) WHERE is_applied IS NULL;

GRANT SELECT, INSERT, UPDATE (is_applied, settled_at) ON krakenbot.ledger_acceptances TO krakenbot_execution;

CREATE VIEW krakenbot.status_ledger_acceptances AS SELECT * FROM krakenbot.ledger_acceptances;
GRANT SELECT ON krakenbot.status_ledger_acceptances TO krakenbot_status;
