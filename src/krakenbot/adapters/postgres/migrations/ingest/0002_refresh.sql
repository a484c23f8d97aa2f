-- The state of all symbols of a lineage as one new generation. The oracle is domain/state/features.py; its rules
-- (windows, the 1 s grid, gaps, ties, late rows) are those of domain/state/windows.py.

-- Fold whole minutes that ended at least 5 s ago, once, and renew the 24 h norms when there was one.
CREATE FUNCTION krakenbot.fold_minutes(p_lineage bigint, p_at_ns bigint) RETURNS void
LANGUAGE plpgsql SET search_path = krakenbot, pg_temp SET enable_nestloop = off SET work_mem = '32MB' AS $$
DECLARE
    closed bigint := (p_at_ns - 5000000000) / 60000000000 - 1;
    folded bigint;
    all_runs bigint[];
BEGIN
    SELECT minute INTO folded FROM refresh_watermarks WHERE lineage_id = p_lineage AND source = 'l2_minutes';
    IF folded IS NULL THEN
        folded := closed - 1440;
    END IF;
    IF folded >= closed THEN
        RETURN;
    END IF;
    folded := greatest(folded, closed - 1440);
    SELECT array_agg(run_id) INTO all_runs FROM observation_runs WHERE lineage_id = p_lineage;

    WITH grid AS MATERIALIZED (
        SELECT DISTINCT ON (symbol, second) symbol, second, second / 60 AS minute, mid, spread_bps
        FROM (
            SELECT symbol, at_ns / 1000000000 AS second, at_ns, run_id, ctid AS place, mid, spread_bps
            FROM l2_snap_metrics
            WHERE run_id = ANY (all_runs)
              AND at_ns >= (folded + 1) * 60000000000 AND at_ns < (closed + 1) * 60000000000
              AND bid > 0 AND bid < ask AND ask < 'Infinity'
        ) usable
        ORDER BY symbol, second, at_ns DESC, run_id DESC, place DESC
    ), spreads AS (
        SELECT symbol, minute, percentile_cont(0.5) WITHIN GROUP (ORDER BY spread_bps) AS spread_bps
        FROM grid GROUP BY symbol, minute
    ), sigmas AS (
        SELECT symbol, minute,
               CASE WHEN count(*) >= 5 THEN sqrt(sum(ln(mid / was) ^ 2) / count(*) * 12) * 10000 END AS sigma_bps
        FROM (SELECT symbol, minute, mid, first_value(mid) OVER (
                  PARTITION BY symbol, minute ORDER BY second RANGE BETWEEN 5 PRECEDING AND 5 PRECEDING) AS was
              FROM grid) pairs
        WHERE was IS NOT NULL GROUP BY symbol, minute
    )
    INSERT INTO feature_buckets (lineage_id, symbol, minute, spread_bps, sigma_bps)
    SELECT p_lineage, symbol, minute, spreads.spread_bps, sigmas.sigma_bps
    FROM spreads LEFT JOIN sigmas USING (symbol, minute)
    ON CONFLICT DO NOTHING;

    INSERT INTO refresh_watermarks (lineage_id, source, minute) VALUES (p_lineage, 'l2_minutes', closed)
    ON CONFLICT (lineage_id, source) DO UPDATE SET minute = excluded.minute;

    DELETE FROM feature_buckets WHERE lineage_id = p_lineage AND minute <= closed - 1440;

    WITH middle AS (
        SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY sigma_bps) AS sigma, count(sigma_bps) AS sigmas,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY spread_bps) AS spread, count(*) AS minutes
        FROM feature_buckets WHERE lineage_id = p_lineage GROUP BY symbol
    ), spread_out AS (
        SELECT symbol, percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(b.sigma_bps - m.sigma)) AS sigma_mad,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(b.spread_bps - m.spread)) AS spread_mad
        FROM feature_buckets b JOIN middle m USING (symbol) WHERE lineage_id = p_lineage GROUP BY symbol
    )
    INSERT INTO symbol_norms
    SELECT p_lineage, symbol, CASE WHEN sigmas >= 60 THEN sigma END, CASE WHEN sigmas >= 60 THEN sigma_mad END,
           CASE WHEN minutes >= 60 THEN spread END, CASE WHEN minutes >= 60 THEN spread_mad END, minutes
    FROM middle JOIN spread_out USING (symbol)
    ON CONFLICT (lineage_id, symbol) DO UPDATE SET
        sigma_norm_bps = excluded.sigma_norm_bps, sigma_mad_bps = excluded.sigma_mad_bps,
        spread_norm_bps = excluded.spread_norm_bps, spread_mad_bps = excluded.spread_mad_bps,
        norm_minutes = excluded.norm_minutes;
    DELETE FROM symbol_norms n WHERE lineage_id = p_lineage
        AND NOT EXISTS (SELECT 1 FROM feature_buckets b WHERE b.lineage_id = p_lineage AND b.symbol = n.symbol);
END $$;

CREATE FUNCTION krakenbot.refresh_run_symbol_state(
    p_lineage bigint, p_run bigint, p_at timestamptz,
    p_short_s double precision, p_medium_s double precision, p_long_s double precision, p_complete_s double precision,
    OUT generation bigint, OUT symbols integer
) LANGUAGE plpgsql SET search_path = krakenbot, pg_temp
  SET enable_nestloop = off SET work_mem = '32MB' SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    at_now bigint := (extract(epoch FROM p_at) * 1000000)::bigint * 1000;
    from_short bigint := at_now - round(p_short_s * 1000000000)::bigint;
    from_medium bigint := at_now - round(p_medium_s * 1000000000)::bigint;
    from_long bigint := at_now - round(p_long_s * 1000000000)::bigint;
    from_complete bigint := at_now - round(p_complete_s * 1000000000)::bigint;
    from_reach bigint := least(from_long, from_complete);
    all_runs bigint[];
    runs bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.refresh'));
    SELECT array_agg(run_id),
           array_agg(run_id) FILTER (WHERE ended_at IS NULL OR ended_at >= p_at - make_interval(
               secs => greatest(p_long_s, p_complete_s) + 60))
    INTO all_runs, runs FROM observation_runs WHERE lineage_id = p_lineage;
    PERFORM fold_minutes(p_lineage, at_now);
    generation := nextval('generation_id_seq');

    WITH book AS MATERIALIZED (
        SELECT *, at_ns / 1000000000 AS second, ctid AS place,
               bid > 0 AND bid < ask AND ask < 'Infinity' AS usable
        FROM l2_snap_metrics WHERE run_id = ANY (runs) AND at_ns > from_reach AND at_ns <= at_now
    ), grid AS MATERIALIZED (
        SELECT DISTINCT ON (symbol, second) symbol, second, at_ns, bid, ask, mid, spread_bps
        FROM book WHERE usable ORDER BY symbol, second, at_ns DESC, run_id DESC, place DESC
    ), medium AS MATERIALIZED (
        SELECT * FROM grid WHERE at_ns > from_medium
    ), touch AS (
        SELECT DISTINCT ON (symbol) * FROM book WHERE usable AND at_ns > from_medium
        ORDER BY symbol, at_ns DESC, run_id DESC, place DESC
    ), spreads AS (
        SELECT symbol, count(*) AS seconds,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY spread_bps) AS p50,
               percentile_cont(0.9) WITHIN GROUP (ORDER BY spread_bps) AS p90
        FROM medium GROUP BY symbol
    ), ends AS (
        SELECT symbol, min(second) AS first_second, max(second) AS last_second
        FROM grid WHERE at_ns > from_long GROUP BY symbol
    ), long_return AS (
        SELECT e.symbol, ln(z.mid / a.mid) * 10000 AS bps
        FROM ends e
        JOIN grid a ON a.symbol = e.symbol AND a.second = e.first_second
        JOIN grid z ON z.symbol = e.symbol AND z.second = e.last_second
        WHERE e.first_second < e.last_second
    -- Looks back by RANGE frames, not by self-joins: nobody has analysed these rows, and a planner that expects one
    -- row joins them by symbol alone.
    ), r5 AS MATERIALIZED (
        SELECT symbol, second, ln(mid / was) AS r
        FROM (SELECT symbol, second, mid, first_value(mid) OVER (
                  PARTITION BY symbol ORDER BY second RANGE BETWEEN 5 PRECEDING AND 5 PRECEDING) AS was
              FROM medium) pairs
        WHERE was IS NOT NULL
    ), sigma AS (
        SELECT symbol, CASE WHEN count(*) >= 5 THEN sqrt(sum(r * r) / count(*) * 12) * 10000 END AS sigma
        FROM r5 GROUP BY symbol
    ), bipower AS MATERIALIZED (
        SELECT symbol,
               CASE WHEN count(was) >= 5 THEN sqrt(pi() / 2 * sum(abs(r) * abs(was)) / count(was) * 12) * 10000 END AS sigma
        FROM (SELECT symbol, r, first_value(r) OVER (
                  PARTITION BY symbol ORDER BY second RANGE BETWEEN 5 PRECEDING AND 5 PRECEDING) AS was
              FROM r5) pairs
        GROUP BY symbol
    ), jumps AS (
        SELECT symbol, count(*) FILTER (WHERE before = 0) AS jumps
        FROM (SELECT symbol, count(*) OVER (
                  PARTITION BY symbol ORDER BY second RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING) AS before
              FROM r5 JOIN bipower USING (symbol) JOIN spreads USING (symbol)
              WHERE abs(r) > greatest(4.5 * bipower.sigma / sqrt(12::double precision), spreads.p50) / 10000) above
        GROUP BY symbol
    ), r1 AS MATERIALIZED (
        SELECT symbol, second, ln(mid / was) AS r
        FROM (SELECT symbol, second, mid, first_value(mid) OVER (
                  PARTITION BY symbol ORDER BY second RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING) AS was
              FROM medium) pairs
        WHERE was IS NOT NULL
    ), means AS MATERIALIZED (
        SELECT symbol, count(*) AS n, sum(r) / count(*) AS mean, bool_or(r <> 0) AS moved FROM r1 GROUP BY symbol
    ), off AS MATERIALIZED (
        SELECT symbol, second, r - mean AS d FROM r1 JOIN means USING (symbol)
    ), lagged AS (
        SELECT symbol, d,
            first_value(d) OVER (PARTITION BY symbol ORDER BY second RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING) AS d1,
            first_value(d) OVER (PARTITION BY symbol ORDER BY second RANGE BETWEEN 2 PRECEDING AND 2 PRECEDING) AS d2,
            first_value(d) OVER (PARTITION BY symbol ORDER BY second RANGE BETWEEN 3 PRECEDING AND 3 PRECEDING) AS d3,
            first_value(d) OVER (PARTITION BY symbol ORDER BY second RANGE BETWEEN 4 PRECEDING AND 4 PRECEDING) AS d4,
            first_value(d) OVER (PARTITION BY symbol ORDER BY second RANGE BETWEEN 5 PRECEDING AND 5 PRECEDING) AS d5
        FROM off
    ), covariances AS (
        SELECT symbol, sum(d * d) AS own,
               sum(d * d) + 2 * sum(d * (5 * coalesce(d1, 0) + 4 * coalesce(d2, 0) + 3 * coalesce(d3, 0)
                   + 2 * coalesce(d4, 0) + coalesce(d5, 0))) / 6 AS with_lags
        FROM lagged GROUP BY symbol
    ), drift AS (
        SELECT symbol, CASE
            WHEN n < 5 THEN NULL
            WHEN NOT moved THEN 0
            WHEN greatest(own, with_lags) / n > 1e-24 THEN mean / sqrt(greatest(own, with_lags) / n / n)
        END AS t
        FROM means JOIN covariances USING (symbol)
    ), book_sums AS (
        SELECT symbol, count(*) AS n, bool_or(ofi <> 0) AS any_ofi, stddev_samp(ofi) AS sd,
               count(*) FILTER (WHERE at_ns > from_short) AS short_n,
               sum(ofi) FILTER (WHERE at_ns > from_short) AS short_ofi,
               sum(crossed_s) AS crossed_s, sum(invalid_s) AS invalid_s
        FROM book WHERE at_ns > from_medium GROUP BY symbol
    ), complete AS (
        SELECT symbol, count(*) AS seconds FROM grid WHERE at_ns > from_complete GROUP BY symbol
    ), trade AS MATERIALIZED (
        SELECT DISTINCT ON (symbol, trade_id) symbol, trade_id, side, at_ns, at_ns / 1000000000 AS second,
               price::double precision AS price, qty::double precision AS qty, (price * qty)::double precision AS size
        FROM trade_samples WHERE run_id = ANY (runs) AND at_ns > from_reach AND at_ns <= at_now
        ORDER BY symbol, trade_id, run_id
    ), flow AS (
        SELECT symbol, count(*) AS n, sum(size) AS total, sum(size * size) AS squares,
               coalesce(sum(size) FILTER (WHERE side = 'buy'), 0) AS bought,
               coalesce(sum(size) FILTER (WHERE side = 'sell'), 0) AS sold
        FROM trade WHERE at_ns > from_medium GROUP BY symbol
    ), queue AS MATERIALIZED (
        SELECT *, ctid AS place FROM l3_queue_metrics
        WHERE run_id = ANY (runs) AND at_ns > from_medium AND at_ns <= at_now
    ), queue_touch AS (
        SELECT DISTINCT ON (symbol) * FROM queue ORDER BY symbol, at_ns DESC, run_id DESC, place DESC
    ), queue_count AS (
        SELECT symbol, count(*) AS n FROM queue GROUP BY symbol
    ), queue_short AS (
        SELECT *, row_number() OVER (PARTITION BY symbol ORDER BY at_ns, run_id, place) AS nth
        FROM queue WHERE at_ns > from_short
    ), queue_sums AS (
        SELECT symbol, count(*) AS n, min(at_ns) AS first_ns, max(at_ns) AS last_ns,
               sum(bid_added) FILTER (WHERE nth > 1) AS bid_added, sum(bid_removed) FILTER (WHERE nth > 1) AS bid_removed,
               sum(ask_added) FILTER (WHERE nth > 1) AS ask_added, sum(ask_removed) FILTER (WHERE nth > 1) AS ask_removed
        FROM queue_short GROUP BY symbol HAVING count(*) > 1 AND max(at_ns) > min(at_ns)
    ), queue_rates AS (
        SELECT q.symbol, (q.last_ns - q.first_ns) / 1e9::double precision AS span_s, q.bid_added, q.ask_added,
               greatest(0, q.bid_removed - coalesce(sum(t.qty) FILTER (WHERE t.side = 'sell'), 0)) AS bid_cancelled,
               greatest(0, q.ask_removed - coalesce(sum(t.qty) FILTER (WHERE t.side = 'buy'), 0)) AS ask_cancelled
        FROM queue_sums q LEFT JOIN trade t
          ON t.symbol = q.symbol AND t.at_ns > q.first_ns AND t.at_ns <= q.last_ns
        GROUP BY q.symbol, q.first_ns, q.last_ns, q.bid_added, q.ask_added, q.bid_removed, q.ask_removed
    -- Every second in which the book row of a trade may lie, then one join by symbol and second.
    ), near AS MATERIALIZED (
        SELECT trade.*, trade.second - back AS book_second
        FROM trade CROSS JOIN generate_series(0, 2) back WHERE at_ns > from_long
    ), hit AS MATERIALIZED (
        SELECT DISTINCT ON (t.symbol, t.trade_id) t.*, g.mid AS was_mid, g.bid AS was_bid, g.ask AS was_ask
        FROM near t JOIN grid g ON g.symbol = t.symbol AND g.second = t.book_second
        WHERE g.at_ns <= t.at_ns AND t.at_ns - g.at_ns <= 2000000000 AND g.at_ns > from_long
        ORDER BY t.symbol, t.trade_id, g.at_ns DESC
    ), due AS MATERIALIZED (
        SELECT symbol, trade_id, side, was_mid, horizon, at_ns + horizon * 1000000000::bigint AS due_ns,
               second + horizon + ahead AS book_second
        FROM hit CROSS JOIN (VALUES (5), (30)) h (horizon) CROSS JOIN generate_series(0, 2) ahead
        WHERE CASE WHEN side = 'sell' THEN price >= was_bid - (was_ask - was_bid) / 2
                   ELSE price <= was_ask + (was_ask - was_bid) / 2 END
    ), moved AS (
        SELECT DISTINCT ON (d.symbol, d.trade_id, d.horizon) d.symbol, d.side, d.horizon,
               (g.mid - d.was_mid) / d.was_mid * 10000 AS bps
        FROM due d JOIN grid g ON g.symbol = d.symbol AND g.second = d.book_second
        WHERE g.at_ns >= d.due_ns AND g.at_ns - d.due_ns <= 2000000000
        ORDER BY d.symbol, d.trade_id, d.horizon, g.at_ns
    ), markout AS (
        SELECT symbol,
               avg(bps) FILTER (WHERE side = 'sell' AND horizon = 5) AS bid_5,
               avg(bps) FILTER (WHERE side = 'sell' AND horizon = 30) AS bid_30,
               -avg(bps) FILTER (WHERE side = 'buy' AND horizon = 5) AS ask_5,
               -avg(bps) FILTER (WHERE side = 'buy' AND horizon = 30) AS ask_30,
               count(*) FILTER (WHERE side = 'sell' AND horizon = 5) AS bid_n,
               count(*) FILTER (WHERE side = 'buy' AND horizon = 5) AS ask_n
        FROM moved GROUP BY symbol
    ), known AS (
        SELECT DISTINCT symbol FROM run_symbols WHERE run_id = ANY (all_runs)
    ), newest AS (
        SELECT k.symbol, t.at_ns AS trade_ns, c.received_at_ns AS ticker_ns, c.last * c.volume_24h AS volume_24h
        FROM known k
        LEFT JOIN LATERAL (
            SELECT at_ns FROM trade_samples s
            WHERE s.run_id = ANY (all_runs) AND s.symbol = k.symbol AND s.at_ns <= at_now
            ORDER BY s.at_ns DESC LIMIT 1
        ) t ON true
        LEFT JOIN LATERAL (
            SELECT received_at_ns, last, volume_24h FROM ticker_samples s
            WHERE s.run_id = ANY (all_runs) AND s.symbol = k.symbol AND s.received_at_ns <= at_now
            ORDER BY s.received_at_ns DESC LIMIT 1
        ) c ON true
    ), written AS (
        INSERT INTO run_symbol_state AS state
        SELECT p_lineage, p_run, symbol, generation, p_at,
            touch.bid, touch.ask, touch.mid, touch.spread_bps, spreads.p50, spreads.p90, touch.microprice_dev_bps,
            touch.imbalance_5, touch.bid_depth_10_quote, touch.bid_depth_25_quote, touch.bid_depth_50_quote,
            touch.ask_depth_10_quote, touch.ask_depth_25_quote, touch.ask_depth_50_quote,
            sigma.sigma, bipower.sigma, drift.t,
            CASE WHEN bipower.sigma IS NOT NULL THEN coalesce(jumps.jumps, 0) END, long_return.bps,
            CASE WHEN trade_ns IS NOT NULL THEN coalesce(flow.n, 0) / p_medium_s * 60 END,
            CASE WHEN trade_ns IS NOT NULL THEN coalesce(flow.bought, 0) END,
            CASE WHEN trade_ns IS NOT NULL THEN coalesce(flow.sold, 0) END,
            CASE WHEN book_sums.n < 5 OR book_sums.short_n < 5 THEN NULL
                 WHEN NOT book_sums.any_ofi THEN 0
                 WHEN book_sums.sd > 0 THEN book_sums.short_ofi / (book_sums.sd * sqrt(book_sums.short_n)) END,
            flow.total / flow.n, flow.squares / flow.n,
            CASE WHEN trade_ns IS NOT NULL THEN coalesce(flow.sold, 0) / p_medium_s END,
            CASE WHEN trade_ns IS NOT NULL THEN coalesce(flow.bought, 0) / p_medium_s END,
            queue_touch.bid_notional, queue_touch.bid_orders, queue_touch.ask_notional, queue_touch.ask_orders,
            queue_rates.bid_added / span_s * touch.bid, queue_rates.bid_cancelled / span_s * touch.bid,
            queue_rates.ask_added / span_s * touch.ask, queue_rates.ask_cancelled / span_s * touch.ask,
            queue_touch.bid_mean_age_s, queue_touch.bid_largest_share,
            markout.bid_5, markout.bid_30, markout.ask_5, markout.ask_30,
            coalesce(markout.bid_n, 0), coalesce(markout.ask_n, 0),
            norms.sigma_norm_bps, norms.sigma_mad_bps, norms.spread_norm_bps, norms.spread_mad_bps,
            coalesce(norms.norm_minutes, 0),
            coalesce(spreads.seconds, 0), coalesce(queue_count.n, 0), coalesce(flow.n, 0),
            (at_now - touch.at_ns) / 1e9::double precision, (at_now - queue_touch.at_ns) / 1e9::double precision,
            (at_now - ticker_ns) / 1e9::double precision, (at_now - trade_ns) / 1e9::double precision,
            coalesce(book_sums.crossed_s, 0), coalesce(book_sums.invalid_s, 0), newest.volume_24h,
            coalesce(complete.seconds, 0) >= 0.9::double precision * p_complete_s
                AND sigma.sigma IS NOT NULL AND trade_ns IS NOT NULL,
            clock_timestamp()
        FROM newest
        LEFT JOIN touch USING (symbol) LEFT JOIN spreads USING (symbol) LEFT JOIN sigma USING (symbol)
        LEFT JOIN bipower USING (symbol) LEFT JOIN drift USING (symbol) LEFT JOIN jumps USING (symbol)
        LEFT JOIN long_return USING (symbol) LEFT JOIN flow USING (symbol) LEFT JOIN book_sums USING (symbol)
        LEFT JOIN queue_touch USING (symbol) LEFT JOIN queue_count USING (symbol)
        LEFT JOIN queue_rates USING (symbol) LEFT JOIN markout USING (symbol) LEFT JOIN complete USING (symbol)
        LEFT JOIN (SELECT * FROM symbol_norms WHERE lineage_id = p_lineage) norms USING (symbol)
        -- A symbol that left the universe longer ago than the longest window has no state.
        WHERE greatest(newest.trade_ns, newest.ticker_ns) > from_reach
           OR touch.symbol IS NOT NULL OR book_sums.symbol IS NOT NULL OR queue_touch.symbol IS NOT NULL
        ON CONFLICT (lineage_id, symbol) DO UPDATE SET
            (run_id, generation_id, computed_at,
             bid, ask, mid, spread_bps, spread_p50_bps, spread_p90_bps, microprice_dev_bps, imbalance_5,
             bid_depth_10_quote, bid_depth_25_quote, bid_depth_50_quote, ask_depth_10_quote, ask_depth_25_quote,
             ask_depth_50_quote, sigma_bps_sqrt_min, bipower_sigma_bps_sqrt_min, drift_t, jumps, return_long_bps,
             trades_per_min, buy_volume_quote, sell_volume_quote, ofi_z, trade_size_mean_quote,
             trade_size_m2_quote, sell_to_bid_per_s_quote, buy_to_ask_per_s_quote, bid_queue_quote,
             bid_queue_orders, ask_queue_quote, ask_queue_orders, bid_add_per_s_quote, bid_cancel_per_s_quote,
             ask_add_per_s_quote, ask_cancel_per_s_quote, bid_mean_age_s, bid_largest_share, bid_markout_5s_bps,
             bid_markout_30s_bps, ask_markout_5s_bps, ask_markout_30s_bps, bid_markout_count, ask_markout_count,
             sigma_norm_bps, sigma_mad_bps, spread_norm_bps, spread_mad_bps, norm_minutes, l2_samples,
             l3_samples, trades, l2_age_s, l3_age_s, ticker_age_s, trade_age_s, crossed_s, invalid_s,
             volume_24h_quote, feature_complete, updated_at) = ROW (
             excluded.run_id, excluded.generation_id, excluded.computed_at,
             excluded.bid, excluded.ask, excluded.mid, excluded.spread_bps, excluded.spread_p50_bps,
             excluded.spread_p90_bps, excluded.microprice_dev_bps, excluded.imbalance_5,
             excluded.bid_depth_10_quote, excluded.bid_depth_25_quote, excluded.bid_depth_50_quote,
             excluded.ask_depth_10_quote, excluded.ask_depth_25_quote, excluded.ask_depth_50_quote,
             excluded.sigma_bps_sqrt_min, excluded.bipower_sigma_bps_sqrt_min, excluded.drift_t, excluded.jumps,
             excluded.return_long_bps, excluded.trades_per_min, excluded.buy_volume_quote,
             excluded.sell_volume_quote, excluded.ofi_z, excluded.trade_size_mean_quote,
             excluded.trade_size_m2_quote, excluded.sell_to_bid_per_s_quote, excluded.buy_to_ask_per_s_quote,
             excluded.bid_queue_quote, excluded.bid_queue_orders, excluded.ask_queue_quote,
             excluded.ask_queue_orders, excluded.bid_add_per_s_quote, excluded.bid_cancel_per_s_quote,
             excluded.ask_add_per_s_quote, excluded.ask_cancel_per_s_quote, excluded.bid_mean_age_s,
             excluded.bid_largest_share, excluded.bid_markout_5s_bps, excluded.bid_markout_30s_bps,
             excluded.ask_markout_5s_bps, excluded.ask_markout_30s_bps, excluded.bid_markout_count,
             excluded.ask_markout_count, excluded.sigma_norm_bps, excluded.sigma_mad_bps,
             excluded.spread_norm_bps, excluded.spread_mad_bps, excluded.norm_minutes, excluded.l2_samples,
             excluded.l3_samples, excluded.trades, excluded.l2_age_s, excluded.l3_age_s, excluded.ticker_age_s,
             excluded.trade_age_s, excluded.crossed_s, excluded.invalid_s, excluded.volume_24h_quote,
             excluded.feature_complete, excluded.updated_at)
        RETURNING 1
    )
    SELECT count(*) INTO symbols FROM written;
    DELETE FROM run_symbol_state WHERE generation_id <> generation;
    INSERT INTO state_generations (generation_id, lineage_id, run_id, computed_at, symbols)
    VALUES (generation, p_lineage, p_run, p_at, refresh_run_symbol_state.symbols);
    DELETE FROM state_generations WHERE generation_id < generation - 10000;
END $$;

REVOKE ALL ON FUNCTION krakenbot.fold_minutes(bigint, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION krakenbot.refresh_run_symbol_state(bigint, bigint, timestamptz, double precision,
    double precision, double precision, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION krakenbot.fold_minutes(bigint, bigint) TO krakenbot_ingest;
GRANT EXECUTE ON FUNCTION krakenbot.refresh_run_symbol_state(bigint, bigint, timestamptz, double precision,
    double precision, double precision, double precision) TO krakenbot_ingest;
