-- When an order of a symbol last changed, found by one step into the index per symbol however many orders there are.

CREATE INDEX execution_orders_last_change
    ON krakenbot.execution_orders (venue_id, symbol, (greatest(created_at, state_at)));
