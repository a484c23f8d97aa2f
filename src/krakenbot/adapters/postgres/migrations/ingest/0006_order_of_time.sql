-- Everything that the refresh reads of all symbols at once is kept in order of time: the last buckets of all symbols are
-- one stretch of an index and of few pages, however old the run, where an index in order of symbols has a page for each.
-- Only the newest and the oldest bucket of one symbol are looked up by symbol.
--
-- The functions keep their plans: what the plans hang on are not the values but the settings of the functions.

ALTER TABLE krakenbot.feature_buckets DROP CONSTRAINT feature_buckets_pkey, ADD PRIMARY KEY (lineage_id, bucket, symbol);
CREATE INDEX ON krakenbot.feature_buckets (lineage_id, symbol, bucket);
ALTER TABLE krakenbot.queue_buckets DROP CONSTRAINT queue_buckets_pkey, ADD PRIMARY KEY (lineage_id, bucket, symbol);
CREATE INDEX ON krakenbot.queue_buckets (lineage_id, symbol, bucket);
ALTER TABLE krakenbot.flow_buckets DROP CONSTRAINT flow_buckets_pkey, ADD PRIMARY KEY (lineage_id, bucket, symbol);
ALTER TABLE krakenbot.markout_buckets DROP CONSTRAINT markout_buckets_pkey,
    ADD PRIMARY KEY (lineage_id, bucket, symbol, horizon_s);
ALTER TABLE krakenbot.feature_minutes DROP CONSTRAINT feature_minutes_pkey, ADD PRIMARY KEY (lineage_id, minute, symbol);
ALTER TABLE krakenbot.queue_minutes DROP CONSTRAINT queue_minutes_pkey, ADD PRIMARY KEY (lineage_id, minute, symbol);
ALTER TABLE krakenbot.markout_minutes DROP CONSTRAINT markout_minutes_pkey,
    ADD PRIMARY KEY (lineage_id, minute, symbol, horizon_s);

-- What is folded is written in order of time too, also when much is folded at once.
CREATE OR REPLACE FUNCTION krakenbot.fold_books(
    p_lineage bigint, p_runs bigint[], p_symbols text[], p_buckets bigint[], p_at_ns bigint
) RETURNS void LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET enable_seqscan = off SET work_mem = '32MB' SET plan_cache_mode = force_generic_plan
  SET jit = off AS $$
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT symbol, bucket FROM unnest(p_symbols, p_buckets) w (symbol, bucket)
    ), ordered AS (
        SELECT w.symbol, w.bucket, r.*,
               lead(r.at_ns) OVER (PARTITION BY w.symbol, w.bucket, r.second
                   ORDER BY r.usable, r.at_ns, r.txid, r.run_id, r.place) IS NULL AND r.usable AS on_grid,
               CASE WHEN r.usable
                    THEN floor(ln(greatest(r.spread_bps, 1e-6)) / ln(1.01::double precision))::integer END AS bin
        FROM wanted w CROSS JOIN LATERAL (
            SELECT l.at_ns, l.at_ns / 1000000000 AS second, l.txid, l.run_id, l.ctid AS place, l.bid, l.ask, l.mid,
                   l.spread_bps, l.microprice_dev_bps, l.imbalance_5, l.bid_depth_10_quote, l.bid_depth_25_quote,
                   l.bid_depth_50_quote, l.ask_depth_10_quote, l.ask_depth_25_quote, l.ask_depth_50_quote, l.ofi,
                   l.crossed_s, l.invalid_s, l.bid > 0 AND l.bid < l.ask AND l.ask < 'Infinity' AS usable
            FROM l2_snap_metrics l
            WHERE l.run_id = ANY (p_runs) AND l.symbol = w.symbol
              AND l.at_ns >= w.bucket * 10000000000 AND l.at_ns < (w.bucket + 1) * 10000000000
              AND l.at_ns <= p_at_ns
            OFFSET 0
        ) r
    ), rows_read AS MATERIALIZED (
        SELECT * FROM ordered
    ), sums AS MATERIALIZED (
        SELECT symbol, bucket, count(*) AS n, avg(ofi) AS ofi_mean, var_pop(ofi) * count(*) AS ofi_squares,
               max(abs(ofi)) AS ofi_greatest, sum(crossed_s) AS crossed_s, sum(invalid_s) AS invalid_s,
               count(*) FILTER (WHERE on_grid) AS seconds, max(second) FILTER (WHERE on_grid) AS last_second,
               ARRAY[max(mid) FILTER (WHERE on_grid AND second % 10 = 0), max(mid) FILTER (WHERE on_grid AND second % 10 = 1),
                     max(mid) FILTER (WHERE on_grid AND second % 10 = 2), max(mid) FILTER (WHERE on_grid AND second % 10 = 3),
                     max(mid) FILTER (WHERE on_grid AND second % 10 = 4), max(mid) FILTER (WHERE on_grid AND second % 10 = 5),
                     max(mid) FILTER (WHERE on_grid AND second % 10 = 6), max(mid) FILTER (WHERE on_grid AND second % 10 = 7),
                     max(mid) FILTER (WHERE on_grid AND second % 10 = 8), max(mid) FILTER (WHERE on_grid AND second % 10 = 9)
               ] AS mids
        FROM rows_read GROUP BY symbol, bucket
    ), bins AS (
        SELECT symbol, bucket, array_agg(bin) AS spread_bins, array_agg(n::integer) AS spread_counts
        FROM (SELECT symbol, bucket, bin, count(*) AS n FROM rows_read WHERE on_grid GROUP BY symbol, bucket, bin) counted
        GROUP BY symbol, bucket
    ), twenty AS (
        -- The mids of the bucket before, of this statement or as they were kept, and its own.
        SELECT s.symbol, s.bucket, coalesce(b.mids, k.mids, array_fill(NULL::double precision, ARRAY[10])) || s.mids AS m
        FROM sums s LEFT JOIN sums b ON b.symbol = s.symbol AND b.bucket = s.bucket - 1
        LEFT JOIN LATERAL (
            SELECT f.mids FROM feature_buckets f
            WHERE f.lineage_id = p_lineage AND f.symbol = s.symbol AND f.bucket = s.bucket - 1 OFFSET 0
        ) k ON true
        WHERE s.seconds > 0
    ), movement AS (
        SELECT t.symbol, t.bucket, r.*
        FROM twenty t CROSS JOIN LATERAL (
            SELECT count(r5) AS r5_n, coalesce(sum(r5 * r5), 0) AS r5_squares, count(r5 * r5_5) AS bipower_n,
                   coalesce(sum(abs(r5 * r5_5)), 0) AS bipower_sum, coalesce(max(abs(r5)), 0) AS r5_greatest,
                   array_agg(coalesce(abs(r5_1), 0)) FILTER (WHERE abs(r5) > coalesce(abs(r5_1), 0)) AS rise_lows,
                   array_agg(abs(r5)) FILTER (WHERE abs(r5) > coalesce(abs(r5_1), 0)) AS rise_highs,
                   count(r1) AS r1_n, coalesce(sum(r1), 0) AS r1_sum, coalesce(sum(r1 * r1), 0) AS r1_squares,
                   coalesce(bool_or(r1 <> 0), false) AS r1_moved,
                   coalesce(sum(r1 * (5 * coalesce(l1, 0) + 4 * coalesce(l2, 0) + 3 * coalesce(l3, 0)
                       + 2 * coalesce(l4, 0) + coalesce(l5, 0))), 0) / 6 AS lag_products,
                   coalesce(sum(5 * coalesce(r1 + l1, 0) + 4 * coalesce(r1 + l2, 0) + 3 * coalesce(r1 + l3, 0)
                       + 2 * coalesce(r1 + l4, 0) + coalesce(r1 + l5, 0)), 0) / 6 AS lag_factors,
                   (5 * count(r1 + l1) + 4 * count(r1 + l2) + 3 * count(r1 + l3) + 2 * count(r1 + l4)
                       + count(r1 + l5))::double precision / 6 AS lag_weights
            FROM (SELECT ln(m0 / m5) AS r5, ln(m1 / m6) AS r5_1, ln(m5 / m10) AS r5_5, ln(m0 / m1) AS r1,
                         ln(m1 / m2) AS l1, ln(m2 / m3) AS l2, ln(m3 / m4) AS l3, ln(m4 / m5) AS l4, ln(m5 / m6) AS l5
                  FROM unnest(m[11:20], m[10:19], m[9:18], m[8:17], m[7:16], m[6:15], m[5:14], m[1:10])
                       u (m0, m1, m2, m3, m4, m5, m6, m10)
                  WHERE m0 IS NOT NULL OFFSET 0) back
        ) r
    )
    INSERT INTO feature_buckets
    SELECT p_lineage, s.symbol, s.bucket, s.n, s.ofi_mean, s.ofi_squares, s.ofi_greatest, s.crossed_s, s.invalid_s,
           s.seconds, coalesce(s.mids[1], s.mids[2], s.mids[3], s.mids[4], s.mids[5], s.mids[6], s.mids[7], s.mids[8],
                               s.mids[9], s.mids[10]), e.at_ns, e.bid, e.ask, e.mid, e.spread_bps, e.microprice_dev_bps,
           e.imbalance_5, e.bid_depth_10_quote, e.bid_depth_25_quote, e.bid_depth_50_quote, e.ask_depth_10_quote,
           e.ask_depth_25_quote, e.ask_depth_50_quote, b.spread_bins, b.spread_counts, s.mids,
           coalesce(m.r5_n, 0), coalesce(m.r5_squares, 0), coalesce(m.bipower_n, 0), coalesce(m.bipower_sum, 0),
           coalesce(m.r5_greatest, 0), m.rise_lows, m.rise_highs, coalesce(m.r1_n, 0), coalesce(m.r1_sum, 0),
           coalesce(m.r1_squares, 0), coalesce(m.r1_moved, false), coalesce(m.lag_products, 0),
           coalesce(m.lag_factors, 0), coalesce(m.lag_weights, 0)
    FROM sums s LEFT JOIN rows_read e ON e.symbol = s.symbol AND e.bucket = s.bucket AND e.second = s.last_second AND e.on_grid
    LEFT JOIN bins b ON b.symbol = s.symbol AND b.bucket = s.bucket
    LEFT JOIN movement m ON m.symbol = s.symbol AND m.bucket = s.bucket
    ORDER BY s.bucket
    ON CONFLICT (lineage_id, symbol, bucket) DO UPDATE SET
        (n, ofi_mean, ofi_squares, ofi_greatest, crossed_s, invalid_s, seconds, first_mid, last_ns, bid, ask, mid,
         spread_bps, microprice_dev_bps, imbalance_5, bid_depth_10_quote, bid_depth_25_quote, bid_depth_50_quote,
         ask_depth_10_quote, ask_depth_25_quote, ask_depth_50_quote, spread_bins, spread_counts, mids, r5_n, r5_squares,
         bipower_n, bipower_sum, r5_greatest, rise_lows, rise_highs, r1_n, r1_sum, r1_squares, r1_moved, lag_products,
         lag_factors, lag_weights) = ROW (
         excluded.n, excluded.ofi_mean, excluded.ofi_squares, excluded.ofi_greatest, excluded.crossed_s,
         excluded.invalid_s, excluded.seconds, excluded.first_mid, excluded.last_ns, excluded.bid, excluded.ask,
         excluded.mid, excluded.spread_bps, excluded.microprice_dev_bps, excluded.imbalance_5,
         excluded.bid_depth_10_quote, excluded.bid_depth_25_quote, excluded.bid_depth_50_quote,
         excluded.ask_depth_10_quote, excluded.ask_depth_25_quote, excluded.ask_depth_50_quote, excluded.spread_bins,
         excluded.spread_counts, excluded.mids, excluded.r5_n, excluded.r5_squares, excluded.bipower_n, excluded.bipower_sum,
         excluded.r5_greatest, excluded.rise_lows, excluded.rise_highs, excluded.r1_n, excluded.r1_sum,
         excluded.r1_squares, excluded.r1_moved, excluded.lag_products, excluded.lag_factors, excluded.lag_weights);
END $$;
CREATE OR REPLACE FUNCTION krakenbot.fold_trades_and_queues(
    p_lineage bigint, p_runs bigint[], p_symbols text[], p_buckets bigint[], p_at_ns bigint
) RETURNS void LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET enable_seqscan = off SET work_mem = '32MB' SET plan_cache_mode = force_generic_plan
  SET jit = off AS $$
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT symbol, bucket FROM unnest(p_symbols, p_buckets) w (symbol, bucket)
    ), spans AS MATERIALIZED (
        SELECT DISTINCT symbol, lead AS bucket FROM wanted CROSS JOIN LATERAL (VALUES (bucket), (bucket - 1)) v (lead)
    ), trades AS MATERIALIZED (
        SELECT DISTINCT ON (spans.symbol, t.trade_id) spans.symbol, spans.bucket, t.at_ns, t.side,
               t.qty::double precision AS qty, (t.price * t.qty)::double precision AS size
        FROM spans CROSS JOIN LATERAL (
            SELECT s.* FROM trade_samples s
            WHERE s.run_id = ANY (p_runs) AND s.symbol = spans.symbol
              AND s.at_ns >= spans.bucket * 10000000000 AND s.at_ns < (spans.bucket + 1) * 10000000000
              AND s.at_ns <= p_at_ns
            OFFSET 0
        ) t
        ORDER BY spans.symbol, t.trade_id, t.run_id
    ), flow AS (
        INSERT INTO flow_buckets
        SELECT p_lineage, symbol, bucket, count(*), coalesce(sum(size) FILTER (WHERE side = 'buy'), 0),
               coalesce(sum(size) FILTER (WHERE side = 'sell'), 0), sum(size * size)
        FROM trades JOIN wanted USING (symbol, bucket) GROUP BY symbol, bucket ORDER BY bucket
        ON CONFLICT (lineage_id, symbol, bucket) DO UPDATE SET (n, bought, sold, squares)
            = ROW (excluded.n, excluded.bought, excluded.sold, excluded.squares)
    ), latest AS (
        UPDATE symbol_latest l SET trade_ns = greatest(l.trade_ns, t.at_ns)
        FROM (SELECT symbol, max(at_ns) AS at_ns FROM trades GROUP BY symbol) t
        WHERE l.lineage_id = p_lineage AND l.symbol = t.symbol AND (l.trade_ns IS NULL OR l.trade_ns < t.at_ns)
    ), queues AS (
        SELECT q.*, w.bucket, lag(q.at_ns) OVER own IS NULL AS is_first, lead(q.at_ns) OVER own IS NULL AS is_last
        FROM wanted w CROSS JOIN LATERAL (
            SELECT s.*, s.ctid AS place FROM l3_queue_metrics s
            WHERE s.run_id = ANY (p_runs) AND s.symbol = w.symbol
              AND s.at_ns >= w.bucket * 10000000000 AND s.at_ns < (w.bucket + 1) * 10000000000
              AND s.at_ns <= p_at_ns
            OFFSET 0
        ) q
        WINDOW own AS (PARTITION BY w.symbol, w.bucket ORDER BY q.at_ns, q.txid, q.run_id, q.place)
    ), sums AS MATERIALIZED (
        -- Of its first row's counts it is not known yet whether they count: only if the bucket before has a row.
        SELECT symbol, bucket, count(*) AS n, min(at_ns) AS first_ns, max(at_ns) AS last_ns,
               coalesce(sum(bid_added) FILTER (WHERE NOT is_first), 0) AS bid_added, max(bid_added) FILTER (WHERE is_first) AS first_bid_added,
               coalesce(sum(bid_removed) FILTER (WHERE NOT is_first), 0) AS bid_removed, max(bid_removed) FILTER (WHERE is_first) AS first_bid_removed,
               coalesce(sum(ask_added) FILTER (WHERE NOT is_first), 0) AS ask_added, max(ask_added) FILTER (WHERE is_first) AS first_ask_added,
               coalesce(sum(ask_removed) FILTER (WHERE NOT is_first), 0) AS ask_removed, max(ask_removed) FILTER (WHERE is_first) AS first_ask_removed,
               max(bid_volume) FILTER (WHERE is_last) AS bid_volume, max(bid_orders) FILTER (WHERE is_last) AS bid_orders,
               max(bid_notional) FILTER (WHERE is_last) AS bid_notional, max(ask_volume) FILTER (WHERE is_last) AS ask_volume,
               max(ask_orders) FILTER (WHERE is_last) AS ask_orders, max(ask_notional) FILTER (WHERE is_last) AS ask_notional,
               max(bid_mean_age_s) FILTER (WHERE is_last) AS bid_mean_age_s, max(ask_mean_age_s) FILTER (WHERE is_last) AS ask_mean_age_s,
               max(bid_largest_share) FILTER (WHERE is_last) AS bid_largest_share,
               max(ask_largest_share) FILTER (WHERE is_last) AS ask_largest_share
        FROM queues GROUP BY symbol, bucket
    ), covers AS MATERIALIZED (
        SELECT s.symbol, s.bucket, s.last_ns, coalesce(b.last_ns, k.last_ns, s.first_ns) AS from_ns,
               b.last_ns IS NOT NULL OR k.last_ns IS NOT NULL AS joins
        FROM sums s LEFT JOIN sums b ON b.symbol = s.symbol AND b.bucket = s.bucket - 1
        LEFT JOIN LATERAL (
            SELECT q.last_ns FROM queue_buckets q
            WHERE q.lineage_id = p_lineage AND q.symbol = s.symbol AND q.bucket = s.bucket - 1 OFFSET 0
        ) k ON true
    ), traded AS (
        SELECT c.symbol, c.bucket, sum(t.qty) FILTER (WHERE t.side = 'sell') AS sold,
               sum(t.qty) FILTER (WHERE t.side = 'buy') AS bought
        FROM covers c JOIN trades t ON t.symbol = c.symbol AND t.at_ns > c.from_ns AND t.at_ns <= c.last_ns
        GROUP BY c.symbol, c.bucket
    )
    INSERT INTO queue_buckets
    SELECT p_lineage, s.symbol, s.bucket, s.n, s.last_ns, s.bid_volume, s.bid_orders, s.bid_notional, s.ask_volume,
           s.ask_orders, s.ask_notional, s.bid_mean_age_s, s.ask_mean_age_s, s.bid_largest_share, s.ask_largest_share,
           c.last_ns - c.from_ns, s.bid_added + CASE WHEN c.joins THEN s.first_bid_added ELSE 0 END,
           s.bid_removed + CASE WHEN c.joins THEN s.first_bid_removed ELSE 0 END,
           s.ask_added + CASE WHEN c.joins THEN s.first_ask_added ELSE 0 END,
           s.ask_removed + CASE WHEN c.joins THEN s.first_ask_removed ELSE 0 END,
           coalesce(t.sold, 0), coalesce(t.bought, 0)
    FROM sums s JOIN covers c ON c.symbol = s.symbol AND c.bucket = s.bucket
    LEFT JOIN traded t ON t.symbol = s.symbol AND t.bucket = s.bucket
    ORDER BY s.bucket
    ON CONFLICT (lineage_id, symbol, bucket) DO UPDATE SET
        (n, last_ns, bid_volume, bid_orders, bid_notional, ask_volume, ask_orders, ask_notional, bid_mean_age_s,
         ask_mean_age_s, bid_largest_share, ask_largest_share, covered_ns, bid_added, bid_removed, ask_added,
         ask_removed, sold, bought) = ROW (
         excluded.n, excluded.last_ns, excluded.bid_volume, excluded.bid_orders, excluded.bid_notional,
         excluded.ask_volume, excluded.ask_orders, excluded.ask_notional, excluded.bid_mean_age_s,
         excluded.ask_mean_age_s, excluded.bid_largest_share, excluded.ask_largest_share, excluded.covered_ns,
         excluded.bid_added, excluded.bid_removed, excluded.ask_added, excluded.ask_removed, excluded.sold,
         excluded.bought);
END $$;
CREATE OR REPLACE FUNCTION krakenbot.fold_minutes(
    p_lineage bigint, p_symbols text[], p_buckets bigint[], p_since bigint, p_closed bigint
) RETURNS void LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET work_mem = '32MB' SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    changed text[];
    known text[];
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT symbol, bucket / 6 AS minute FROM unnest(p_symbols, p_buckets) w (symbol, bucket) WHERE bucket / 6 <= p_closed
        UNION
        SELECT symbol, minute FROM symbol_latest CROSS JOIN generate_series(p_since + 1, p_closed) minute
        WHERE lineage_id = p_lineage AND seen_ns / 60000000000 > p_since
    ), parts AS MATERIALIZED (
        SELECT w.minute, f.*
        FROM wanted w CROSS JOIN LATERAL (
            SELECT * FROM feature_buckets b
            WHERE b.lineage_id = p_lineage AND b.symbol = w.symbol
              AND b.bucket >= w.minute * 6 AND b.bucket < w.minute * 6 + 6
            OFFSET 0
        ) f
    ), sums AS MATERIALIZED (
        SELECT symbol, minute, sum(n)::bigint AS n, sum(n * ofi_mean) / sum(n)::double precision AS ofi_mean,
               max(ofi_greatest) AS ofi_greatest, sum(crossed_s) AS crossed_s, sum(invalid_s) AS invalid_s,
               sum(seconds) AS seconds, sum(r5_n) AS r5_n, sum(r5_squares) AS r5_squares, sum(bipower_n) AS bipower_n,
               sum(bipower_sum) AS bipower_sum, max(r5_greatest) AS r5_greatest, sum(r1_n) AS r1_n,
               sum(r1_sum) AS r1_sum, sum(r1_squares) AS r1_squares, bool_or(r1_moved) AS r1_moved,
               sum(lag_products) AS lag_products, sum(lag_factors) AS lag_factors, sum(lag_weights) AS lag_weights
        FROM parts GROUP BY symbol, minute
    ), squares AS (
        SELECT p.symbol, p.minute, sum(p.ofi_squares + p.n * (p.ofi_mean - s.ofi_mean) ^ 2) AS ofi_squares
        FROM parts p JOIN sums s USING (symbol, minute) GROUP BY p.symbol, p.minute
    ), rises AS (
        SELECT symbol, minute, array_agg(low) AS rise_lows, array_agg(high) AS rise_highs
        FROM parts CROSS JOIN LATERAL unnest(rise_lows, rise_highs) u (low, high) GROUP BY symbol, minute
    ), sigmas AS (
        SELECT symbol, minute,
               CASE WHEN r5_n >= 5 THEN sqrt(r5_squares / r5_n::double precision * 12) * 10000 END AS sigma
        FROM sums
    ), histogram AS MATERIALIZED (
        SELECT symbol, minute, bin, sum(times) AS times
        FROM parts CROSS JOIN LATERAL unnest(spread_bins, spread_counts) u (bin, times) GROUP BY symbol, minute, bin
    ), bins AS (
        SELECT symbol, minute, array_agg(bin) AS spread_bins, array_agg(times::integer) AS spread_counts
        FROM histogram GROUP BY symbol, minute
    ), counted AS (
        SELECT symbol, minute, bin, sum(times::double precision) OVER (PARTITION BY symbol, minute ORDER BY bin) AS upto,
               sum(times::double precision) OVER (PARTITION BY symbol, minute) AS total
        FROM histogram
    ), spreads AS (
        SELECT symbol, minute, (spread_of_bin(min(bin) FILTER (WHERE upto > floor(0.5 * (total - 1))))
                   + spread_of_bin(min(bin) FILTER (WHERE upto > ceil(0.5 * (total - 1))))) / 2 AS spread
        FROM counted GROUP BY symbol, minute
    ), merged AS (
        INSERT INTO feature_minutes
        SELECT p_lineage, symbol, minute, s.n, s.ofi_mean, q.ofi_squares, s.ofi_greatest, s.crossed_s, s.invalid_s,
               s.seconds, b.spread_bins, b.spread_counts, s.r5_n, s.r5_squares, s.bipower_n, s.bipower_sum,
               s.r5_greatest, r.rise_lows, r.rise_highs, s.r1_n, s.r1_sum, s.r1_squares, s.r1_moved, s.lag_products,
               s.lag_factors, s.lag_weights
        FROM sums s JOIN squares q USING (symbol, minute) LEFT JOIN rises r USING (symbol, minute)
        LEFT JOIN bins b USING (symbol, minute)
        ORDER BY minute
        ON CONFLICT (lineage_id, symbol, minute) DO UPDATE SET
            (n, ofi_mean, ofi_squares, ofi_greatest, crossed_s, invalid_s, seconds, spread_bins, spread_counts, r5_n,
             r5_squares, bipower_n, bipower_sum, r5_greatest, rise_lows, rise_highs, r1_n, r1_sum, r1_squares, r1_moved,
             lag_products, lag_factors, lag_weights) = ROW (
             excluded.n, excluded.ofi_mean, excluded.ofi_squares, excluded.ofi_greatest, excluded.crossed_s,
             excluded.invalid_s, excluded.seconds, excluded.spread_bins, excluded.spread_counts, excluded.r5_n,
             excluded.r5_squares, excluded.bipower_n, excluded.bipower_sum, excluded.r5_greatest, excluded.rise_lows,
             excluded.rise_highs, excluded.r1_n, excluded.r1_sum, excluded.r1_squares, excluded.r1_moved,
             excluded.lag_products, excluded.lag_factors, excluded.lag_weights)
    ), queued AS (
        INSERT INTO queue_minutes
        SELECT p_lineage, w.symbol, w.minute, sum(q.n)
        FROM wanted w CROSS JOIN LATERAL (
            SELECT b.n FROM queue_buckets b
            WHERE b.lineage_id = p_lineage AND b.symbol = w.symbol
              AND b.bucket >= w.minute * 6 AND b.bucket < w.minute * 6 + 6
            OFFSET 0
        ) q GROUP BY w.symbol, w.minute ORDER BY w.minute
        ON CONFLICT (lineage_id, symbol, minute) DO UPDATE SET n = excluded.n
    ), written AS (
        INSERT INTO minute_values SELECT p_lineage, symbol, minute, spread, sigma
        FROM spreads JOIN sigmas USING (symbol, minute)
        ON CONFLICT (lineage_id, symbol, minute) DO UPDATE SET
            spread_bps = excluded.spread_bps, sigma_bps = excluded.sigma_bps
        RETURNING symbol, minute
    )
    SELECT array_agg(DISTINCT l.symbol) INTO changed
    FROM symbol_latest l LEFT JOIN symbol_norms n ON n.lineage_id = p_lineage AND n.symbol = l.symbol
    LEFT JOIN (SELECT symbol, min(minute) AS minute FROM written GROUP BY symbol) w ON w.symbol = l.symbol
    WHERE l.lineage_id = p_lineage AND (n.as_of IS DISTINCT FROM p_closed - (p_closed - l.norm_slot) % 10
                                        OR w.minute <= p_closed - (p_closed - l.norm_slot) % 10);

    IF p_closed <> p_since THEN
        SELECT array_agg(symbol) INTO known FROM symbol_latest WHERE lineage_id = p_lineage;
        DELETE FROM minute_values WHERE lineage_id = p_lineage AND symbol = ANY (known) AND minute <= p_closed - 1450;
    END IF;
    IF changed IS NULL THEN
        RETURN;
    END IF;

    WITH minutes AS MATERIALIZED (
        SELECT l.symbol, v.sigma_bps, v.spread_bps
        FROM symbol_latest l CROSS JOIN LATERAL (
            SELECT m.sigma_bps, m.spread_bps FROM minute_values m
            WHERE m.lineage_id = p_lineage AND m.symbol = l.symbol
              AND m.minute <= p_closed - (p_closed - l.norm_slot) % 10
              AND m.minute > p_closed - (p_closed - l.norm_slot) % 10 - 1440
            OFFSET 0
        ) v WHERE l.lineage_id = p_lineage AND l.symbol = ANY (changed)
    ), middle AS (
        SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY sigma_bps) AS sigma, count(sigma_bps) AS sigmas,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY spread_bps) AS spread, count(*) AS minutes
        FROM minutes GROUP BY symbol
    ), spread_out AS (
        SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(v.sigma_bps - m.sigma)) AS sigma_mad,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(v.spread_bps - m.spread)) AS spread_mad
        FROM minutes v JOIN middle m USING (symbol) GROUP BY symbol
    )
    INSERT INTO symbol_norms
    SELECT p_lineage, l.symbol, p_closed - (p_closed - l.norm_slot) % 10,
           CASE WHEN sigmas >= 60 THEN sigma END, CASE WHEN sigmas >= 60 THEN sigma_mad END,
           CASE WHEN minutes >= 60 THEN spread END, CASE WHEN minutes >= 60 THEN spread_mad END, coalesce(minutes, 0)
    FROM symbol_latest l LEFT JOIN middle USING (symbol) LEFT JOIN spread_out USING (symbol)
    WHERE l.lineage_id = p_lineage AND l.symbol = ANY (changed)
    ON CONFLICT (lineage_id, symbol) DO UPDATE SET
        as_of = excluded.as_of, sigma_norm_bps = excluded.sigma_norm_bps, sigma_mad_bps = excluded.sigma_mad_bps,
        spread_norm_bps = excluded.spread_norm_bps, spread_mad_bps = excluded.spread_mad_bps,
        norm_minutes = excluded.norm_minutes;
END $$;
DROP FUNCTION krakenbot.fold_markouts(bigint, bigint[], text[], bigint[], bigint);
-- Fold the markouts that the buckets have part in: of their trades, of trades that come due in them, and, when a row of
-- their first two seconds is new (p_early), of trades that came due just before.
CREATE FUNCTION krakenbot.fold_markouts(
    p_lineage bigint, p_runs bigint[], p_symbols text[], p_buckets bigint[], p_early boolean[],
    p_at_ns bigint
) RETURNS void LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET enable_seqscan = off SET work_mem = '32MB' SET plan_cache_mode = force_generic_plan
  SET jit = off AS $$
DECLARE
    changed_symbols text[];
    changed_minutes bigint[];
BEGIN
    WITH wanted AS (
        SELECT w.symbol, w.bucket, w.early FROM unnest(p_symbols, p_buckets, p_early) w (symbol, bucket, early)
        JOIN symbol_latest l ON l.lineage_id = p_lineage AND l.symbol = w.symbol
        WHERE l.trade_ns / 10000000000 >= w.bucket - 181
    ), horizons (horizon_s, back) AS (
        VALUES (5, 0), (5, 1), (30, 3), (300, 30), (1800, 180)
    ), due AS MATERIALIZED (
        -- (bucket in which trades came due, bucket of the trades)
        SELECT symbol, horizon_s, bucket - slack AS bucket, bucket - slack - back AS traded_in
        FROM wanted CROSS JOIN horizons CROSS JOIN (VALUES (0), (1)) s (slack)
        WHERE slack = 0 OR early
        UNION
        SELECT symbol, horizon_s, bucket + back, bucket FROM wanted CROSS JOIN horizons
        WHERE (bucket + back) * 10000000000 <= p_at_ns
    ), traded AS MATERIALIZED (
        -- Both buckets of trades that come due 5 s later, when one of them is asked for.
        SELECT DISTINCT d.symbol, d.horizon_s, d.bucket
        FROM due d JOIN flow_buckets f ON f.symbol = d.symbol AND f.bucket = d.traded_in
        WHERE f.lineage_id = p_lineage AND f.bucket = ANY (ARRAY(SELECT DISTINCT traded_in FROM due))
    ), hits AS MATERIALIZED (
        SELECT DISTINCT ON (d.symbol, d.horizon_s, t.trade_id) d.*, t.trade_id, t.side, t.at_ns,
               t.at_ns + d.horizon_s * 1000000000::bigint AS due_ns, t.price::double precision AS price
        FROM traded d CROSS JOIN LATERAL (
            SELECT s.* FROM trade_samples s
            WHERE s.run_id = ANY (p_runs) AND s.symbol = d.symbol
              AND s.at_ns >= d.bucket * 10000000000 - d.horizon_s * 1000000000::bigint
              AND s.at_ns < (d.bucket + 1) * 10000000000 - d.horizon_s * 1000000000::bigint
              AND s.at_ns + d.horizon_s * 1000000000::bigint <= p_at_ns
            OFFSET 0
        ) t
        ORDER BY d.symbol, d.horizon_s, t.trade_id, t.run_id
    ), moved AS (
        SELECT h.symbol, h.bucket, h.horizon_s, h.side, (later.mid - was.mid) / was.mid * 10000 AS bps
        FROM hits h CROSS JOIN LATERAL (
            SELECT b.mid, b.bid, b.ask FROM l2_snap_metrics b
            WHERE b.run_id = ANY (p_runs) AND b.symbol = h.symbol AND b.at_ns <= h.at_ns
              AND b.at_ns >= h.at_ns - 2000000000 AND b.bid > 0 AND b.bid < b.ask AND b.ask < 'Infinity'
            ORDER BY b.at_ns DESC, b.txid DESC, b.run_id DESC, b.ctid DESC LIMIT 1
        ) was CROSS JOIN LATERAL (
            SELECT b.mid FROM l2_snap_metrics b
            WHERE b.run_id = ANY (p_runs) AND b.symbol = h.symbol AND b.at_ns >= h.due_ns
              AND b.at_ns <= h.due_ns + 2000000000 AND b.at_ns <= p_at_ns
              AND b.bid > 0 AND b.bid < b.ask AND b.ask < 'Infinity'
            ORDER BY b.at_ns, b.txid, b.run_id, b.ctid LIMIT 1
        ) later
        WHERE CASE WHEN h.side = 'sell' THEN h.price >= was.bid - (was.ask - was.bid) / 2
                   ELSE h.price <= was.ask + (was.ask - was.bid) / 2 END
    ), written AS (
    INSERT INTO markout_buckets
    SELECT p_lineage, symbol, bucket, horizon_s, count(*) FILTER (WHERE side = 'sell'),
           coalesce(sum(bps) FILTER (WHERE side = 'sell'), 0), count(*) FILTER (WHERE side = 'buy'),
           coalesce(sum(bps) FILTER (WHERE side = 'buy'), 0)
    FROM traded LEFT JOIN moved USING (symbol, bucket, horizon_s) GROUP BY symbol, bucket, horizon_s ORDER BY bucket
    ON CONFLICT (lineage_id, symbol, bucket, horizon_s) DO UPDATE SET (bid_n, bid_sum, ask_n, ask_sum)
        = ROW (excluded.bid_n, excluded.bid_sum, excluded.ask_n, excluded.ask_sum)
    RETURNING symbol, bucket
    )
    SELECT array_agg(symbol), array_agg(minute) INTO changed_symbols, changed_minutes
    FROM (SELECT DISTINCT symbol, bucket / 6 AS minute FROM written) w;
    PERFORM fold_markout_minutes(p_lineage, changed_symbols, changed_minutes);
END $$;
CREATE OR REPLACE FUNCTION krakenbot.fold_markout_minutes(p_lineage bigint, p_symbols text[], p_minutes bigint[]) RETURNS void
LANGUAGE sql SET search_path = krakenbot, pg_temp SET enable_nestloop = off SET enable_seqscan = off SET jit = off AS $$
    INSERT INTO markout_minutes
    SELECT p_lineage, w.symbol, w.minute, m.horizon_s, sum(m.bid_n), sum(m.bid_sum), sum(m.ask_n), sum(m.ask_sum)
    FROM unnest(p_symbols, p_minutes) w (symbol, minute) CROSS JOIN LATERAL (
        SELECT * FROM markout_buckets b
        WHERE b.lineage_id = p_lineage AND b.symbol = w.symbol
          AND b.bucket = ANY (ARRAY[w.minute * 6, w.minute * 6 + 1, w.minute * 6 + 2, w.minute * 6 + 3,
                                    w.minute * 6 + 4, w.minute * 6 + 5])
        OFFSET 0
    ) m GROUP BY w.symbol, w.minute, m.horizon_s ORDER BY w.minute
    ON CONFLICT (lineage_id, symbol, minute, horizon_s) DO UPDATE SET (bid_n, bid_sum, ask_n, ask_sum)
        = ROW (excluded.bid_n, excluded.bid_sum, excluded.ask_n, excluded.ask_sum)
$$;
CREATE OR REPLACE FUNCTION krakenbot.fold_new_rows(p_lineage bigint, p_at_ns bigint, p_reach_s double precision) RETURNS void
LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET enable_seqscan = off SET work_mem = '32MB' SET plan_cache_mode = force_generic_plan
  SET jit = off AS $$
DECLARE
    this_bucket bigint := p_at_ns / 10000000000;
    closed bigint := p_at_ns / 60000000000 - 1;
    from_ns bigint := p_at_ns - round(p_reach_s * 1000000000)::bigint;
    runs bigint[];
    known text[];
    mark refresh_watermarks;
    now_seen pg_snapshot;
    changed_symbols text[];
    changed_buckets bigint[];
    changed_early boolean[];
BEGIN
    SELECT coalesce(array_agg(run_id), '{}') INTO runs FROM observation_runs
    WHERE lineage_id = p_lineage AND (ended_at IS NULL OR ended_at >= to_timestamp(from_ns / 1e9 - 60));
    SELECT * INTO mark FROM refresh_watermarks WHERE lineage_id = p_lineage;
    IF NOT FOUND THEN
        mark := (p_lineage, '1:1:'::pg_snapshot, p_at_ns, closed - ceil(p_reach_s / 60)::bigint);
    END IF;
    IF p_at_ns < mark.at_ns THEN
        -- The clock was set back: what lies after it does not exist yet.
        DELETE FROM feature_buckets WHERE lineage_id = p_lineage AND bucket >= this_bucket;
        DELETE FROM flow_buckets WHERE lineage_id = p_lineage AND bucket >= this_bucket;
        DELETE FROM queue_buckets WHERE lineage_id = p_lineage AND bucket >= this_bucket;
        DELETE FROM markout_buckets WHERE lineage_id = p_lineage AND bucket >= this_bucket;
        DELETE FROM minute_values WHERE lineage_id = p_lineage AND minute > closed;
        DELETE FROM feature_minutes WHERE lineage_id = p_lineage AND minute > closed;
        DELETE FROM queue_minutes WHERE lineage_id = p_lineage AND minute > closed;
        DELETE FROM markout_minutes WHERE lineage_id = p_lineage AND minute > closed;
        SELECT coalesce(array_agg(symbol), '{}') INTO known FROM symbol_latest WHERE lineage_id = p_lineage;
        PERFORM fold_markout_minutes(p_lineage, known, array_fill(closed + 1, ARRAY[cardinality(known)]));
    END IF;

    -- One statement, one snapshot: what it sees is what the next refresh leaves out.
    WITH fresh AS MATERIALIZED (
        SELECT symbol, at_ns, 'book' AS source, NULL::double precision AS volume FROM l2_snap_metrics
        WHERE run_id = ANY (runs) AND txid >= pg_snapshot_xmin(mark.seen) AND NOT pg_visible_in_snapshot(txid, mark.seen)
        UNION ALL
        SELECT symbol, at_ns, 'queue', NULL FROM l3_queue_metrics
        WHERE run_id = ANY (runs) AND txid >= pg_snapshot_xmin(mark.seen) AND NOT pg_visible_in_snapshot(txid, mark.seen)
        UNION ALL
        SELECT symbol, at_ns, 'trade', NULL FROM trade_samples
        WHERE run_id = ANY (runs) AND txid >= pg_snapshot_xmin(mark.seen) AND NOT pg_visible_in_snapshot(txid, mark.seen)
        UNION ALL
        SELECT symbol, received_at_ns, 'ticker', last * volume_24h FROM ticker_samples
        WHERE run_id = ANY (runs) AND txid >= pg_snapshot_xmin(mark.seen) AND NOT pg_visible_in_snapshot(txid, mark.seen)
    ), latest AS (
        INSERT INTO symbol_latest AS l
        SELECT p_lineage, symbol, max(at_ns), max(at_ns) FILTER (WHERE source = 'trade' AND at_ns <= p_at_ns),
               max(at_ns) FILTER (WHERE source = 'ticker'),
               (array_agg(volume ORDER BY at_ns DESC) FILTER (WHERE source = 'ticker'))[1], coalesce(slot, norm_slot_of(symbol))
        FROM fresh LEFT JOIN (SELECT symbol, norm_slot AS slot FROM symbol_latest WHERE lineage_id = p_lineage) k
        USING (symbol) GROUP BY symbol, slot
        ON CONFLICT (lineage_id, symbol) DO UPDATE SET
            seen_ns = greatest(l.seen_ns, excluded.seen_ns), trade_ns = greatest(l.trade_ns, excluded.trade_ns),
            ticker_ns = greatest(l.ticker_ns, excluded.ticker_ns),
            volume_24h_quote = CASE WHEN excluded.ticker_ns >= coalesce(l.ticker_ns, 0) THEN excluded.volume_24h_quote
                                    ELSE l.volume_24h_quote END
    ), touched AS MATERIALIZED (
        -- A row of the first two seconds of a bucket may be the one that a trade waits for which came due before it.
        SELECT symbol, at_ns / 10000000000 AS bucket, bool_or(at_ns % 10000000000 <= 2000000000) AS early
        FROM fresh WHERE source <> 'ticker' AND at_ns >= from_ns GROUP BY symbol, at_ns / 10000000000
        -- Rows that the last refresh saw and that lay after its time.
        UNION ALL
        SELECT symbol, bucket, true FROM symbol_latest CROSS JOIN LATERAL generate_series(
            least(mark.at_ns, p_at_ns) / 10000000000, least(this_bucket, seen_ns / 10000000000)) bucket
        WHERE lineage_id = p_lineage AND seen_ns > least(mark.at_ns, p_at_ns)
    )
    SELECT array_agg(symbol), array_agg(bucket), array_agg(early), pg_current_snapshot()
    INTO changed_symbols, changed_buckets, changed_early, now_seen
    FROM (SELECT symbol, bucket, bool_or(early) AS early
          FROM (SELECT symbol, bucket, early FROM touched UNION ALL SELECT symbol, bucket + 1, false FROM touched) both_sides
          WHERE bucket <= this_bucket GROUP BY symbol, bucket) t;

    IF changed_symbols IS NOT NULL THEN
        PERFORM fold_books(p_lineage, runs, changed_symbols, changed_buckets, p_at_ns);
        PERFORM fold_trades_and_queues(p_lineage, runs, changed_symbols, changed_buckets, p_at_ns);
        PERFORM fold_markouts(p_lineage, runs, changed_symbols, changed_buckets, changed_early, p_at_ns);
    END IF;
    IF closed <> mark.closed_minute OR EXISTS (SELECT 1 FROM unnest(changed_buckets) b WHERE b / 6 <= closed) THEN
        PERFORM fold_minutes(p_lineage, changed_symbols, changed_buckets,
                             greatest(least(mark.closed_minute, closed), closed - ceil(p_reach_s / 60)::bigint), closed);
    END IF;
    IF closed <> mark.closed_minute THEN
        DELETE FROM feature_buckets WHERE lineage_id = p_lineage AND bucket < from_ns / 10000000000;
        DELETE FROM flow_buckets WHERE lineage_id = p_lineage AND bucket < from_ns / 10000000000;
        DELETE FROM queue_buckets WHERE lineage_id = p_lineage AND bucket < from_ns / 10000000000;
        DELETE FROM markout_buckets WHERE lineage_id = p_lineage AND bucket < from_ns / 10000000000;
        DELETE FROM feature_minutes WHERE lineage_id = p_lineage AND minute < from_ns / 60000000000;
        DELETE FROM queue_minutes WHERE lineage_id = p_lineage AND minute < from_ns / 60000000000;
        DELETE FROM markout_minutes WHERE lineage_id = p_lineage AND minute < from_ns / 60000000000;
    END IF;

    INSERT INTO refresh_watermarks VALUES (p_lineage, now_seen, p_at_ns, closed)
    ON CONFLICT (lineage_id) DO UPDATE SET
        seen = excluded.seen, at_ns = excluded.at_ns, closed_minute = excluded.closed_minute;
END $$;
-- As before, from stretches of all symbols.
CREATE OR REPLACE FUNCTION krakenbot.refresh_run_symbol_state(
    p_lineage bigint, p_run bigint, p_at timestamptz,
    p_short_s double precision, p_medium_s double precision, p_long_s double precision, p_complete_s double precision,
    OUT generation bigint, OUT symbols integer
) LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET enable_seqscan = off SET work_mem = '64MB' SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    at_now bigint := (extract(epoch FROM p_at) * 1000000)::bigint * 1000;
    this_bucket bigint := at_now / 10000000000;
    from_short bigint := (at_now - round(p_short_s * 1000000000)::bigint) / 10000000000;
    from_medium bigint := (at_now - round(p_medium_s * 1000000000)::bigint) / 10000000000;
    from_long bigint := (at_now - round(p_long_s * 1000000000)::bigint) / 10000000000;
    from_complete bigint := (at_now - round(p_complete_s * 1000000000)::bigint) / 10000000000;
    span_s double precision := (at_now - from_medium * 10000000000) / 1e9::double precision;
    reach_s double precision := greatest(p_short_s, p_medium_s, p_long_s, p_complete_s);
    -- Whole minutes that no window cuts; the short window is summed apart.
    closed bigint := at_now / 60000000000 - 1;
    book_from bigint := (greatest(from_medium, from_complete) + 5) / 6;
    book_to bigint := greatest(closed, book_from - 1);
    queue_from bigint := (from_medium + 5) / 6;
    queue_to bigint := greatest(closed, queue_from - 1);
    markout_from bigint := (from_long + 5) / 6;
    markout_to bigint := greatest(closed, markout_from - 1);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.refresh'));
    -- The oldest markout that comes due in the longest window looks back half an hour.
    PERFORM fold_new_rows(p_lineage, at_now, reach_s + 1830);
    generation := nextval('generation_id_seq');

    WITH known AS MATERIALIZED (
        -- A symbol that left the universe longer ago than the longest window has no state.
        SELECT * FROM symbol_latest
        WHERE lineage_id = p_lineage AND seen_ns > at_now - round(reach_s * 1000000000)::bigint
    ), part AS MATERIALIZED (
        SELECT f.symbol, f.bucket, f.n, f.ofi_mean, f.ofi_squares, f.ofi_greatest, f.crossed_s, f.invalid_s, f.seconds,
               f.spread_bins, f.spread_counts, f.r5_n, f.r5_squares, f.bipower_n, f.bipower_sum, f.r5_greatest,
               f.rise_lows, f.rise_highs, f.r1_n, f.r1_sum, f.r1_squares, f.r1_moved, f.lag_products,
               f.lag_factors, f.lag_weights
        FROM feature_buckets f WHERE f.lineage_id = p_lineage
          AND f.bucket >= least(from_medium, from_complete) AND f.bucket < least(book_from * 6, this_bucket + 1)
        UNION ALL
        SELECT f.symbol, f.minute * 6, f.n, f.ofi_mean, f.ofi_squares, f.ofi_greatest, f.crossed_s, f.invalid_s, f.seconds,
               f.spread_bins, f.spread_counts, f.r5_n, f.r5_squares, f.bipower_n, f.bipower_sum, f.r5_greatest,
               f.rise_lows, f.rise_highs, f.r1_n, f.r1_sum, f.r1_squares, f.r1_moved, f.lag_products,
               f.lag_factors, f.lag_weights
        FROM feature_minutes f
        WHERE f.lineage_id = p_lineage AND f.minute >= book_from AND f.minute <= book_to
        UNION ALL
        SELECT f.symbol, f.bucket, f.n, f.ofi_mean, f.ofi_squares, f.ofi_greatest, f.crossed_s, f.invalid_s, f.seconds,
               f.spread_bins, f.spread_counts, f.r5_n, f.r5_squares, f.bipower_n, f.bipower_sum, f.r5_greatest,
               f.rise_lows, f.rise_highs, f.r1_n, f.r1_sum, f.r1_squares, f.r1_moved, f.lag_products,
               f.lag_factors, f.lag_weights
        FROM feature_buckets f
        WHERE f.lineage_id = p_lineage AND f.bucket >= book_to * 6 + 6 AND f.bucket <= this_bucket
    ), short_sums AS (
        SELECT symbol, sum(n)::double precision AS short_n, sum(n * ofi_mean) AS short_ofi
        FROM feature_buckets f
        WHERE f.lineage_id = p_lineage AND f.bucket >= from_short AND f.bucket <= this_bucket GROUP BY symbol
    ), newest AS MATERIALIZED (
        SELECT f.* FROM known CROSS JOIN LATERAL (
            SELECT symbol, bucket, last_ns, bid, ask, mid, spread_bps, microprice_dev_bps, imbalance_5,
                   bid_depth_10_quote, bid_depth_25_quote, bid_depth_50_quote, ask_depth_10_quote, ask_depth_25_quote,
                   ask_depth_50_quote
            FROM feature_buckets f
            WHERE f.lineage_id = p_lineage AND f.symbol = known.symbol AND f.bucket >= from_long
              AND f.bucket <= this_bucket AND f.seconds > 0 ORDER BY f.bucket DESC LIMIT 1
        ) f
    ), touch AS (
        SELECT * FROM newest WHERE bucket >= from_medium
    ), counted AS (
        SELECT symbol, bin, sum(sum(times)::double precision) OVER (PARTITION BY symbol ORDER BY bin) AS upto,
               sum(sum(times)::double precision) OVER (PARTITION BY symbol) AS total
        FROM part CROSS JOIN LATERAL unnest(spread_bins, spread_counts) u (bin, times)
        WHERE bucket >= from_medium GROUP BY symbol, bin
    ), ranks AS (
        SELECT symbol, max(total) AS total,
               spread_of_bin(min(bin) FILTER (WHERE upto > floor(0.5 * (total - 1)))) AS low_50,
               spread_of_bin(min(bin) FILTER (WHERE upto > ceil(0.5 * (total - 1)))) AS high_50,
               spread_of_bin(min(bin) FILTER (WHERE upto > floor(0.9 * (total - 1)))) AS low_90,
               spread_of_bin(min(bin) FILTER (WHERE upto > ceil(0.9 * (total - 1)))) AS high_90
        FROM counted GROUP BY symbol
    ), spreads AS MATERIALIZED (
        SELECT symbol, low_50 + (high_50 - low_50) * (0.5 * (total - 1) - floor(0.5 * (total - 1))) AS p50,
               low_90 + (high_90 - low_90) * (0.9 * (total - 1) - floor(0.9 * (total - 1))) AS p90
        FROM ranks
    ), sums AS MATERIALIZED (
        SELECT symbol, sum(seconds) FILTER (WHERE bucket >= from_complete) AS complete_seconds,
               sum(n) FILTER (WHERE bucket >= from_medium)::double precision AS n,
               sum(n * ofi_mean) FILTER (WHERE bucket >= from_medium) AS ofi,
               max(ofi_greatest) FILTER (WHERE bucket >= from_medium) AS ofi_greatest,
               sum(crossed_s) FILTER (WHERE bucket >= from_medium) AS crossed_s,
               sum(invalid_s) FILTER (WHERE bucket >= from_medium) AS invalid_s,
               sum(seconds) FILTER (WHERE bucket >= from_medium) AS seconds,
               sum(r5_n) FILTER (WHERE bucket >= from_medium)::double precision AS r5_n,
               sum(r5_squares) FILTER (WHERE bucket >= from_medium) AS r5_squares,
               sum(bipower_n) FILTER (WHERE bucket >= from_medium)::double precision AS bipower_n,
               sum(bipower_sum) FILTER (WHERE bucket >= from_medium) AS bipower_sum,
               sum(r1_n) FILTER (WHERE bucket >= from_medium)::double precision AS r1_n,
               sum(r1_sum) FILTER (WHERE bucket >= from_medium) AS r1_sum,
               sum(r1_squares) FILTER (WHERE bucket >= from_medium) AS r1_squares,
               bool_or(r1_moved) FILTER (WHERE bucket >= from_medium) AS r1_moved,
               sum(lag_products) FILTER (WHERE bucket >= from_medium) AS lag_products,
               sum(lag_factors) FILTER (WHERE bucket >= from_medium) AS lag_factors,
               sum(lag_weights) FILTER (WHERE bucket >= from_medium) AS lag_weights
        FROM part GROUP BY symbol
    ), movement AS MATERIALIZED (
        SELECT *, CASE WHEN r5_n >= 5 THEN sqrt(r5_squares / r5_n * 12) * 10000 END AS sigma,
               CASE WHEN bipower_n >= 5 THEN sqrt(pi() / 2 * bipower_sum / bipower_n * 12) * 10000 END AS bipower,
               CASE WHEN r1_n > 0 THEN r1_sum / r1_n END AS mean
        FROM sums
    ), variances AS (
        SELECT symbol, r1_n, r1_moved, mean, greatest(own, own + 2 * lags) / r1_n AS variance
        FROM (SELECT symbol, r1_n, r1_moved, mean, r1_squares - r1_sum * mean AS own,
                     lag_products - mean * lag_factors + mean * mean * lag_weights AS lags
              FROM movement WHERE r1_n >= 5) raw
    ), drift AS (
        SELECT symbol, CASE WHEN NOT r1_moved THEN 0
                            WHEN variance > greatest(1e-24, 1e-9 * mean * mean) THEN mean / sqrt(variance / r1_n) END AS t
        FROM variances
    ), thresholds AS (
        SELECT symbol, greatest(4.5 * bipower / sqrt(12::double precision), p50) / 10000 AS threshold
        FROM movement JOIN spreads USING (symbol) WHERE bipower IS NOT NULL
    ), jumps AS (
        SELECT part.symbol, count(*) AS jumps
        FROM part JOIN thresholds ON thresholds.symbol = part.symbol AND part.r5_greatest > threshold
        CROSS JOIN LATERAL unnest(rise_lows, rise_highs) u (low, high)
        WHERE bucket >= from_medium AND high > threshold AND low <= threshold GROUP BY part.symbol
    ), ofi AS (
        SELECT symbol, CASE
            WHEN n < 5 OR coalesce(short_n, 0) < 5 THEN NULL
            WHEN greatest_ofi = 0 THEN 0
            WHEN sqrt(squares / (n - 1)) > 1e-9 * greatest_ofi THEN short_ofi / (sqrt(squares / (n - 1)) * sqrt(short_n))
            END AS z
        FROM (SELECT symbol, sums.n, sums.ofi_greatest AS greatest_ofi,
                     sum(part.ofi_squares + part.n * (part.ofi_mean - sums.ofi / sums.n) ^ 2) AS squares
              FROM part JOIN sums USING (symbol) WHERE bucket >= from_medium AND sums.n > 1
              GROUP BY symbol, sums.n, sums.ofi_greatest) spread LEFT JOIN short_sums USING (symbol)
    ), oldest AS (
        -- Mostly in the bucket in which the window begins, else wherever the symbol begins.
        SELECT known.symbol, a.*
        FROM known LEFT JOIN feature_buckets b
          ON b.lineage_id = p_lineage AND b.bucket = from_long AND b.seconds > 0 AND b.symbol = known.symbol
        CROSS JOIN LATERAL (
            SELECT b.bucket, b.seconds, b.first_mid WHERE b.symbol IS NOT NULL
            UNION ALL
            (SELECT bucket, seconds, first_mid FROM feature_buckets f
             WHERE b.symbol IS NULL AND f.lineage_id = p_lineage AND f.symbol = known.symbol AND f.bucket > from_long
               AND f.bucket <= this_bucket AND f.seconds > 0 ORDER BY f.bucket LIMIT 1)
        ) a
    ), long_return AS (
        SELECT symbol, ln(z.mid / a.first_mid) * 10000 AS bps
        FROM oldest a JOIN newest z USING (symbol) WHERE a.bucket < z.bucket OR a.seconds > 1
    ), flow AS (
        SELECT symbol, sum(n)::bigint AS n, sum(bought) AS bought, sum(sold) AS sold, sum(squares) AS squares
        FROM flow_buckets f
        WHERE f.lineage_id = p_lineage AND f.bucket >= from_medium AND f.bucket <= this_bucket GROUP BY symbol
    ), queue AS (
        SELECT q.* FROM known CROSS JOIN LATERAL (
            SELECT * FROM queue_buckets q WHERE q.lineage_id = p_lineage AND q.symbol = known.symbol
              AND q.bucket >= from_medium AND q.bucket <= this_bucket ORDER BY q.bucket DESC LIMIT 1
        ) q
    ), queue_sums AS (
        SELECT symbol, sum(n)::bigint AS n FROM (
            SELECT symbol, n FROM queue_buckets b WHERE b.lineage_id = p_lineage
              AND b.bucket >= from_medium AND b.bucket < least(queue_from * 6, this_bucket + 1)
            UNION ALL
            SELECT symbol, n FROM queue_minutes m
            WHERE m.lineage_id = p_lineage AND m.minute >= queue_from AND m.minute <= queue_to
            UNION ALL
            SELECT symbol, n FROM queue_buckets b
            WHERE b.lineage_id = p_lineage AND b.bucket >= queue_to * 6 + 6 AND b.bucket <= this_bucket
        ) parts GROUP BY symbol
    ), rates AS (
        SELECT symbol, bid_added / span AS bid_added, ask_added / span AS ask_added,
               greatest(0, bid_removed - sold) / span AS bid_cancelled,
               greatest(0, ask_removed - bought) / span AS ask_cancelled
        FROM (
            SELECT symbol, sum(covered_ns)::double precision / 1e9::double precision AS span, sum(bid_added) AS bid_added,
                   sum(ask_added) AS ask_added, sum(bid_removed) AS bid_removed, sum(ask_removed) AS ask_removed,
                   sum(sold) AS sold, sum(bought) AS bought
            FROM queue_buckets q
            WHERE q.lineage_id = p_lineage AND q.bucket >= from_short AND q.bucket <= this_bucket GROUP BY symbol
        ) short
        WHERE span > 0
    ), markout AS (
        SELECT symbol, sum(bid_sum) FILTER (WHERE horizon_s = 5) / nullif(sum(bid_n) FILTER (WHERE horizon_s = 5), 0)::double precision AS bid_5,
               sum(bid_sum) FILTER (WHERE horizon_s = 30) / nullif(sum(bid_n) FILTER (WHERE horizon_s = 30), 0)::double precision AS bid_30,
               sum(bid_sum) FILTER (WHERE horizon_s = 300) / nullif(sum(bid_n) FILTER (WHERE horizon_s = 300), 0)::double precision AS bid_300,
               sum(bid_sum) FILTER (WHERE horizon_s = 1800) / nullif(sum(bid_n) FILTER (WHERE horizon_s = 1800), 0)::double precision AS bid_1800,
               (sum(bid_n) FILTER (WHERE horizon_s = 5))::bigint AS bid_n,
               -sum(ask_sum) FILTER (WHERE horizon_s = 5) / nullif(sum(ask_n) FILTER (WHERE horizon_s = 5), 0)::double precision AS ask_5,
               -sum(ask_sum) FILTER (WHERE horizon_s = 30) / nullif(sum(ask_n) FILTER (WHERE horizon_s = 30), 0)::double precision AS ask_30,
               -sum(ask_sum) FILTER (WHERE horizon_s = 300) / nullif(sum(ask_n) FILTER (WHERE horizon_s = 300), 0)::double precision AS ask_300,
               -sum(ask_sum) FILTER (WHERE horizon_s = 1800) / nullif(sum(ask_n) FILTER (WHERE horizon_s = 1800), 0)::double precision AS ask_1800,
               (sum(ask_n) FILTER (WHERE horizon_s = 5))::bigint AS ask_n
        FROM (
            SELECT symbol, horizon_s, bid_n, bid_sum, ask_n, ask_sum FROM markout_buckets b WHERE b.lineage_id = p_lineage
              AND b.bucket >= from_long AND b.bucket < least(markout_from * 6, this_bucket + 1)
            UNION ALL
            SELECT symbol, horizon_s, bid_n, bid_sum, ask_n, ask_sum FROM markout_minutes b
            WHERE b.lineage_id = p_lineage AND b.minute >= markout_from AND b.minute <= markout_to
            UNION ALL
            SELECT symbol, horizon_s, bid_n, bid_sum, ask_n, ask_sum FROM markout_buckets b
            WHERE b.lineage_id = p_lineage AND b.bucket >= markout_to * 6 + 6 AND b.bucket <= this_bucket
        ) due
        GROUP BY symbol
    ), gaps AS (
        SELECT symbol, count(*) AS n FROM trade_gaps JOIN observation_runs USING (run_id)
        WHERE lineage_id = p_lineage AND refilled_at IS NULL GROUP BY symbol
    ), norms AS (
        SELECT * FROM symbol_norms WHERE lineage_id = p_lineage
    ), written AS (
        INSERT INTO run_symbol_state (
            lineage_id, run_id, symbol, generation_id, computed_at, bid, ask, mid, spread_bps, spread_p50_bps,
            spread_p90_bps, microprice_dev_bps, imbalance_5, bid_depth_10_quote, bid_depth_25_quote,
            bid_depth_50_quote, ask_depth_10_quote, ask_depth_25_quote, ask_depth_50_quote, sigma_bps_sqrt_min,
            bipower_sigma_bps_sqrt_min, drift_bps_per_min, drift_t, jumps, return_long_bps, trades_per_min,
            buy_volume_quote, sell_volume_quote, ofi_base, ofi_z, trade_size_mean_quote, trade_size_m2_quote,
            sell_to_bid_per_s_quote, buy_to_ask_per_s_quote, bid_queue_base, ask_queue_base, bid_queue_quote,
            bid_queue_orders, ask_queue_quote, ask_queue_orders, bid_add_per_s_quote, bid_cancel_per_s_quote,
            ask_add_per_s_quote, ask_cancel_per_s_quote, bid_mean_age_s, ask_mean_age_s, bid_largest_share,
            ask_largest_share, bid_markout_5s_bps, bid_markout_30s_bps, bid_markout_300s_bps, bid_markout_1800s_bps,
            ask_markout_5s_bps, ask_markout_30s_bps, ask_markout_300s_bps, ask_markout_1800s_bps, bid_markout_count,
            ask_markout_count, sigma_norm_bps, sigma_mad_bps, spread_norm_bps, spread_mad_bps, norm_minutes,
            l2_samples, l3_samples, trades, l2_age_s, l3_age_s, ticker_age_s, trade_age_s, crossed_s, invalid_s,
            gap_s, trade_gaps, volume_24h_quote, feature_complete, updated_at)
        SELECT
            p_lineage, p_run, known.symbol, generation, p_at, touch.bid, touch.ask, touch.mid, touch.spread_bps,
            spreads.p50, spreads.p90, touch.microprice_dev_bps, touch.imbalance_5, touch.bid_depth_10_quote,
            touch.bid_depth_25_quote, touch.bid_depth_50_quote, touch.ask_depth_10_quote, touch.ask_depth_25_quote,
            touch.ask_depth_50_quote, movement.sigma, movement.bipower,
            CASE WHEN movement.r1_n >= 5 THEN movement.mean * 60 * 10000 END, drift.t,
            CASE WHEN movement.bipower IS NOT NULL THEN coalesce(jumps.jumps, 0) END, long_return.bps,
            CASE WHEN known.trade_ns IS NOT NULL THEN coalesce(flow.n, 0) / span_s * 60 END,
            CASE WHEN known.trade_ns IS NOT NULL THEN coalesce(flow.bought, 0) END,
            CASE WHEN known.trade_ns IS NOT NULL THEN coalesce(flow.sold, 0) END,
            CASE WHEN short_sums.short_n > 0 THEN short_sums.short_ofi END, ofi.z, (flow.bought + flow.sold) / flow.n,
            flow.squares / flow.n, CASE WHEN known.trade_ns IS NOT NULL THEN coalesce(flow.sold, 0) / span_s END,
            CASE WHEN known.trade_ns IS NOT NULL THEN coalesce(flow.bought, 0) / span_s END, queue.bid_volume,
            queue.ask_volume, queue.bid_notional, queue.bid_orders, queue.ask_notional, queue.ask_orders,
            rates.bid_added * touch.bid, rates.bid_cancelled * touch.bid, rates.ask_added * touch.ask,
            rates.ask_cancelled * touch.ask, queue.bid_mean_age_s, queue.ask_mean_age_s, queue.bid_largest_share,
            queue.ask_largest_share, markout.bid_5, markout.bid_30, markout.bid_300, markout.bid_1800,
            markout.ask_5, markout.ask_30, markout.ask_300, markout.ask_1800, coalesce(markout.bid_n, 0),
            coalesce(markout.ask_n, 0), norms.sigma_norm_bps, norms.sigma_mad_bps, norms.spread_norm_bps,
            norms.spread_mad_bps, coalesce(norms.norm_minutes, 0), coalesce(sums.seconds, 0),
            coalesce(queue_sums.n, 0), coalesce(flow.n, 0), (at_now - touch.last_ns) / 1e9::double precision,
            (at_now - queue.last_ns) / 1e9::double precision,
            CASE WHEN known.ticker_ns IS NOT NULL THEN greatest(0, at_now - known.ticker_ns) / 1e9::double precision END,
            CASE WHEN known.trade_ns IS NOT NULL THEN greatest(0, at_now - known.trade_ns) / 1e9::double precision END,
            coalesce(sums.crossed_s, 0), coalesce(sums.invalid_s, 0),
            at_now / 1000000000 - from_medium * 10 + 1 - coalesce(sums.seconds, 0), coalesce(gaps.n, 0),
            known.volume_24h_quote,
            coalesce(sums.complete_seconds, 0) >= 0.9::double precision * p_complete_s
                AND movement.sigma IS NOT NULL AND known.trade_ns IS NOT NULL,
            clock_timestamp()
        FROM known
        LEFT JOIN touch USING (symbol) LEFT JOIN spreads USING (symbol) LEFT JOIN sums USING (symbol) LEFT JOIN short_sums USING (symbol)
        LEFT JOIN movement USING (symbol) LEFT JOIN drift USING (symbol) LEFT JOIN jumps USING (symbol)
        LEFT JOIN ofi USING (symbol) LEFT JOIN long_return USING (symbol) LEFT JOIN flow USING (symbol)
        LEFT JOIN queue USING (symbol) LEFT JOIN queue_sums USING (symbol) LEFT JOIN rates USING (symbol)
        LEFT JOIN markout USING (symbol) LEFT JOIN gaps USING (symbol) LEFT JOIN norms USING (symbol)
        ON CONFLICT (lineage_id, symbol) DO UPDATE SET (
            run_id, generation_id, computed_at, bid, ask, mid, spread_bps, spread_p50_bps, spread_p90_bps,
            microprice_dev_bps, imbalance_5, bid_depth_10_quote, bid_depth_25_quote, bid_depth_50_quote,
            ask_depth_10_quote, ask_depth_25_quote, ask_depth_50_quote, sigma_bps_sqrt_min,
            bipower_sigma_bps_sqrt_min, drift_bps_per_min, drift_t, jumps, return_long_bps, trades_per_min,
            buy_volume_quote, sell_volume_quote, ofi_base, ofi_z, trade_size_mean_quote, trade_size_m2_quote,
            sell_to_bid_per_s_quote, buy_to_ask_per_s_quote, bid_queue_base, ask_queue_base, bid_queue_quote,
            bid_queue_orders, ask_queue_quote, ask_queue_orders, bid_add_per_s_quote, bid_cancel_per_s_quote,
            ask_add_per_s_quote, ask_cancel_per_s_quote, bid_mean_age_s, ask_mean_age_s, bid_largest_share,
            ask_largest_share, bid_markout_5s_bps, bid_markout_30s_bps, bid_markout_300s_bps, bid_markout_1800s_bps,
            ask_markout_5s_bps, ask_markout_30s_bps, ask_markout_300s_bps, ask_markout_1800s_bps, bid_markout_count,
            ask_markout_count, sigma_norm_bps, sigma_mad_bps, spread_norm_bps, spread_mad_bps, norm_minutes,
            l2_samples, l3_samples, trades, l2_age_s, l3_age_s, ticker_age_s, trade_age_s, crossed_s, invalid_s,
            gap_s, trade_gaps, volume_24h_quote, feature_complete, updated_at) = ROW (
            excluded.run_id, excluded.generation_id, excluded.computed_at, excluded.bid, excluded.ask, excluded.mid,
            excluded.spread_bps, excluded.spread_p50_bps, excluded.spread_p90_bps, excluded.microprice_dev_bps,
            excluded.imbalance_5, excluded.bid_depth_10_quote, excluded.bid_depth_25_quote,
            excluded.bid_depth_50_quote, excluded.ask_depth_10_quote, excluded.ask_depth_25_quote,
            excluded.ask_depth_50_quote, excluded.sigma_bps_sqrt_min, excluded.bipower_sigma_bps_sqrt_min,
            excluded.drift_bps_per_min, excluded.drift_t, excluded.jumps, excluded.return_long_bps,
            excluded.trades_per_min, excluded.buy_volume_quote, excluded.sell_volume_quote, excluded.ofi_base,
            excluded.ofi_z, excluded.trade_size_mean_quote, excluded.trade_size_m2_quote,
            excluded.sell_to_bid_per_s_quote, excluded.buy_to_ask_per_s_quote, excluded.bid_queue_base,
            excluded.ask_queue_base, excluded.bid_queue_quote, excluded.bid_queue_orders, excluded.ask_queue_quote,
            excluded.ask_queue_orders, excluded.bid_add_per_s_quote, excluded.bid_cancel_per_s_quote,
            excluded.ask_add_per_s_quote, excluded.ask_cancel_per_s_quote, excluded.bid_mean_age_s,
            excluded.ask_mean_age_s, excluded.bid_largest_share, excluded.ask_largest_share,
            excluded.bid_markout_5s_bps, excluded.bid_markout_30s_bps, excluded.bid_markout_300s_bps,
            excluded.bid_markout_1800s_bps, excluded.ask_markout_5s_bps, excluded.ask_markout_30s_bps,
            excluded.ask_markout_300s_bps, excluded.ask_markout_1800s_bps, excluded.bid_markout_count,
            excluded.ask_markout_count, excluded.sigma_norm_bps, excluded.sigma_mad_bps, excluded.spread_norm_bps,
            excluded.spread_mad_bps, excluded.norm_minutes, excluded.l2_samples, excluded.l3_samples,
            excluded.trades, excluded.l2_age_s, excluded.l3_age_s, excluded.ticker_age_s, excluded.trade_age_s,
            excluded.crossed_s, excluded.invalid_s, excluded.gap_s, excluded.trade_gaps, excluded.volume_24h_quote,
            excluded.feature_complete, excluded.updated_at)
        RETURNING 1
    )
    SELECT count(*) INTO symbols FROM written;
    DELETE FROM run_symbol_state WHERE generation_id <> generation;
    INSERT INTO state_generations (generation_id, lineage_id, run_id, computed_at, symbols)
    VALUES (generation, p_lineage, p_run, p_at, refresh_run_symbol_state.symbols);
    DELETE FROM state_generations WHERE generation_id < generation - 10000;
END $$;
REVOKE ALL ON FUNCTION krakenbot.fold_markouts(bigint, bigint[], text[], bigint[], boolean[], bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION krakenbot.fold_markouts(bigint, bigint[], text[], bigint[], boolean[], bigint) TO krakenbot_ingest;
