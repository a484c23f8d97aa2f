-- What `krakenbot orders`, `positions` and `trades` read besides the views that are there.

CREATE VIEW krakenbot.status_markouts AS SELECT * FROM krakenbot.markouts;
GRANT SELECT ON krakenbot.status_markouts TO krakenbot_status;
