-- faulty: 1 when the last analysis of its series found the file missing, damaged or unreadable.
ALTER TABLE instances ADD COLUMN faulty INTEGER NOT NULL DEFAULT 0;
CREATE INDEX instances_faulty ON instances (series_uid) WHERE faulty = 1;

-- mended: how often an image of the series came again while or after this job found it faulty.
ALTER TABLE jobs ADD COLUMN mended INTEGER NOT NULL DEFAULT 0;

-- value_digest: over what the image says, the same in every uncompressed transfer syntax; empty
-- where an older version recorded it.
ALTER TABLE instances ADD COLUMN value_digest TEXT NOT NULL DEFAULT '';
