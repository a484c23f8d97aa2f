-- Records of the local journal that this database has taken: each one once.

CREATE TABLE krakenbot.order_journal (
    journal_id text PRIMARY KEY,
    lease_epoch bigint NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON krakenbot.order_journal
    FOR EACH STATEMENT EXECUTE FUNCTION krakenbot.refuse_change();
GRANT SELECT, INSERT ON krakenbot.order_journal TO krakenbot_execution;

CREATE VIEW krakenbot.status_order_journal AS SELECT * FROM krakenbot.order_journal;
GRANT SELECT ON krakenbot.status_order_journal TO krakenbot_status;
