-- released_at: retention let go of the file (and of the results); NULL: it is to be kept.
-- gone: 1 once the file is off the disk; a stop in between leaves it to the next start.
ALTER TABLE instances ADD COLUMN released_at TEXT;
ALTER TABLE instances ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN released_at TEXT;

CREATE INDEX instances_to_purge ON instances (gone, released_at) WHERE released_at IS NOT NULL;

-- Series whose newest revision is done, which it only is when nothing is pending, refused or waiting
-- for a commitment, and of which something was delivered: what went nowhere is the only copy.
CREATE VIEW releasable AS
    SELECT j.series_uid, j.since FROM jobs j
    WHERE j.state = 'done'
      AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid
                      AND n.revision > j.revision)
      AND EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id AND d.state = 'delivered')
      AND EXISTS (SELECT 1 FROM instances i WHERE i.series_uid = j.series_uid
                  AND i.released_at IS NULL);
