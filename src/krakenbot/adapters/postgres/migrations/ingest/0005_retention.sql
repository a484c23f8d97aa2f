-- Rotation and retention: partitions ahead of need, dropped one at a time, rows deleted only within a run that goes on.

-- Make the partitions of a run in every table that is partitioned by run; harmless when they exist. Attaching lets
-- readers and writers of the parent go on, where CREATE TABLE ... PARTITION OF would wait for all of them.
CREATE OR REPLACE FUNCTION krakenbot.ensure_run_partitions(p_run bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp AS $$
DECLARE
    parent text;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.partitions'));
    FOR parent IN
        SELECT c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        WHERE c.relnamespace = 'krakenbot'::regnamespace AND a.attname = 'run_id'
        ORDER BY c.relname
    LOOP
        child := format('%s_r%s', parent, p_run);
        IF to_regclass('krakenbot.' || child) IS NULL THEN
            EXECUTE format('CREATE TABLE krakenbot.%I (LIKE krakenbot.%I INCLUDING ALL)', child, parent);
            EXECUTE format('ALTER TABLE krakenbot.%I ATTACH PARTITION krakenbot.%I FOR VALUES FROM (%s) TO (%s)',
                           parent, child, p_run, p_run + 1);
        END IF;
    END LOOP;
END $$;

-- The partitions of one run, whatever their parent.
CREATE FUNCTION krakenbot.run_partitions(p_run bigint) RETURNS TABLE (parent regclass, child regclass)
LANGUAGE sql STABLE SET search_path = krakenbot, pg_temp AS $$
    SELECT i.inhparent::regclass, i.inhrelid::regclass
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE c.relnamespace = 'krakenbot'::regnamespace AND c.relname ~ format('_r%s$', p_run)
    ORDER BY c.relname
$$;

-- Detach and drop one partition of a run that has ended; returns its size, or NULL when the run has none left.
-- Detaching locks the parent against everybody: it waits for half a second at most, and one table at a time is held.
CREATE FUNCTION krakenbot.drop_run_partition(p_run bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    parent regclass;
    child regclass;
    size_bytes bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('krakenbot.partitions'));
    IF EXISTS (SELECT 1 FROM observation_runs WHERE run_id = p_run AND ended_at IS NULL) THEN
        RAISE EXCEPTION 'run % goes on', p_run USING ERRCODE = 'object_in_use';
    END IF;
    SELECT p.parent, p.child INTO parent, child FROM run_partitions(p_run) p LIMIT 1;
    IF child IS NULL THEN
        RETURN NULL;
    END IF;
    size_bytes := pg_total_relation_size(child);
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, child);
    EXECUTE format('DROP TABLE %s', child);
    RETURN size_bytes;
END $$;

-- Delete at most p_limit rows per raw table that are older than p_before_ns, within one run; returns how many.
CREATE FUNCTION krakenbot.delete_run_rows(p_run bigint, p_before_ns bigint, p_limit integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = krakenbot, pg_temp AS $$
DECLARE
    child regclass;
    stamp text;
    deleted bigint;
    total bigint := 0;
BEGIN
    FOR child IN SELECT p.child FROM run_partitions(p_run) p LOOP
        SELECT attname INTO stamp FROM pg_attribute
        WHERE attrelid = child AND attname IN ('received_at_ns', 'at_ns') AND NOT attisdropped
        ORDER BY attname DESC LIMIT 1;
        EXECUTE format('DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s WHERE %I < $1 LIMIT $2))',
                       child, child, stamp) USING p_before_ns, p_limit;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        total := total + deleted;
    END LOOP;
    RETURN total;
END $$;

REVOKE ALL ON FUNCTION krakenbot.run_partitions(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION krakenbot.drop_run_partition(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION krakenbot.delete_run_rows(bigint, bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION krakenbot.run_partitions(bigint) TO krakenbot_ingest;
GRANT EXECUTE ON FUNCTION krakenbot.drop_run_partition(bigint) TO krakenbot_ingest;
GRANT EXECUTE ON FUNCTION krakenbot.delete_run_rows(bigint, bigint, integer) TO krakenbot_ingest;
