-- What retention knows of a run. A run's row outlives its raw rows, because epochs refer to it: whoever looks for raw
-- rows or counts the runs of a lineage asks for `raw_dropped_at IS NULL`.
ALTER TABLE krakenbot.observation_runs ADD COLUMN raw_dropped_at timestamptz;
ALTER TABLE krakenbot.observation_runs
    ADD CONSTRAINT observation_runs_dropped_only_when_ended CHECK (raw_dropped_at IS NULL OR ended_at IS NOT NULL);
CREATE INDEX observation_runs_with_rows ON krakenbot.observation_runs (lineage_id, run_id) WHERE raw_dropped_at IS NULL;
