-- Up to when the ledger is known to hold all that the venue has shown, per account. It moves only in the transaction
-- after those that booked what was shown, and never back.

CREATE TABLE krakenbot.reconciled (
    venue_id text PRIMARY KEY,
    reconciled_at timestamptz NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE ON krakenbot.reconciled TO krakenbot_execution;
CREATE VIEW krakenbot.status_reconciled AS SELECT * FROM krakenbot.reconciled;
GRANT SELECT ON krakenbot.status_reconciled TO krakenbot_status;
