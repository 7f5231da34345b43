-- Files are named by their place below the folder of the state file: it may be moved. Of whole paths,
-- wherever the folder was when they were written, the end counts.
UPDATE instances SET path = substr(path, -(length(content_digest) + 27))
    WHERE path GLOB '*/spool/????????????????/' || content_digest || '.dcm';

UPDATE jobs SET result = replace(result, substr(
        json_extract(result, '$.overlay'), 1,
        instr(json_extract(result, '$.overlay'), printf('/results/%08d/', id))), '')
    WHERE json_valid(result)
      AND instr(json_extract(result, '$.overlay'), printf('/results/%08d/', id)) > 0;

-- What follows keeps every question that a loop asks, or that is asked while a C-STORE waits, from
-- growing with what the node has seen: counts are kept as rows change, and indices hold only what
-- is still to be done.

-- One row: the images that are kept, and their bytes.
CREATE TABLE kept (
    images INTEGER NOT NULL,
    size   INTEGER NOT NULL
) STRICT;
INSERT INTO kept SELECT count(*), coalesce(sum(size), 0) FROM instances WHERE released_at IS NULL;

CREATE TRIGGER count_new AFTER INSERT ON instances WHEN NEW.released_at IS NULL
BEGIN
    UPDATE kept SET images = images + 1, size = size + NEW.size;
END;
CREATE TRIGGER count_changed AFTER UPDATE OF released_at, size ON instances
BEGIN
    UPDATE kept SET
        images = images + (NEW.released_at IS NULL) - (OLD.released_at IS NULL),
        size = size + NEW.size * (NEW.released_at IS NULL) - OLD.size * (OLD.released_at IS NULL);
END;

-- holds: 1 while images of its series are kept.
ALTER TABLE jobs ADD COLUMN holds INTEGER NOT NULL DEFAULT 1;
UPDATE jobs SET holds = 0 WHERE NOT EXISTS
    (SELECT 1 FROM instances WHERE series_uid = jobs.series_uid AND released_at IS NULL);
CREATE TRIGGER holds_again AFTER UPDATE OF released_at ON instances
WHEN NEW.released_at IS NULL AND OLD.released_at IS NOT NULL
BEGIN
    UPDATE jobs SET holds = 1 WHERE series_uid = NEW.series_uid AND holds = 0;
END;
CREATE TRIGGER holds_new AFTER INSERT ON instances WHEN NEW.released_at IS NULL
BEGIN
    UPDATE jobs SET holds = 1 WHERE series_uid = NEW.series_uid AND holds = 0;
END;
CREATE INDEX jobs_holding ON jobs (created_at) WHERE holds = 1;
CREATE INDEX jobs_to_release ON jobs (since, id) WHERE holds = 1 AND state = 'done';

-- overtaken: 1 once its series has a later revision.
ALTER TABLE jobs ADD COLUMN overtaken INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET overtaken = 1 WHERE EXISTS
    (SELECT 1 FROM jobs n WHERE n.series_uid = jobs.series_uid AND n.revision > jobs.revision);
CREATE TRIGGER overtake AFTER INSERT ON jobs
BEGIN
    UPDATE jobs SET overtaken = 1
        WHERE series_uid = NEW.series_uid AND revision < NEW.revision AND overtaken = 0;
END;
CREATE INDEX jobs_overtaken ON jobs (id) WHERE overtaken = 1 AND state = 'delivering';

-- open_deliveries: of its deliveries, those that still wait for something.
ALTER TABLE jobs ADD COLUMN open_deliveries INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET open_deliveries = (SELECT count(*) FROM deliveries
    WHERE job_id = jobs.id AND state IN ('pending', 'stored'))
    WHERE id IN (SELECT job_id FROM deliveries WHERE state IN ('pending', 'stored'));
CREATE TRIGGER open_new AFTER INSERT ON deliveries WHEN NEW.state IN ('pending', 'stored')
BEGIN
    UPDATE jobs SET open_deliveries = open_deliveries + 1 WHERE id = NEW.job_id;
END;
CREATE TRIGGER open_changed AFTER UPDATE OF state ON deliveries
WHEN (NEW.state IN ('pending', 'stored')) <> (OLD.state IN ('pending', 'stored'))
BEGIN
    UPDATE jobs SET open_deliveries = open_deliveries
        + (NEW.state IN ('pending', 'stored')) - (OLD.state IN ('pending', 'stored'))
        WHERE id = NEW.job_id;
END;
CREATE TRIGGER open_gone AFTER DELETE ON deliveries WHEN OLD.state IN ('pending', 'stored')
BEGIN
    UPDATE jobs SET open_deliveries = open_deliveries - 1 WHERE id = OLD.job_id;
END;
CREATE INDEX jobs_to_finish ON jobs (id) WHERE state = 'delivering' AND open_deliveries = 0;

CREATE INDEX jobs_to_claim ON jobs (coalesce(due_at, since), id) WHERE state = 'ready';

-- accession_key: a digest of the Accession Number of the first image; empty where there is none, and
-- for what came before this column.
ALTER TABLE jobs ADD COLUMN accession_key TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_of_accession ON jobs (accession_key) WHERE accession_key <> '';
CREATE INDEX jobs_by_time ON jobs (since);

-- As in 0007. It is asked of one series; the "+" keeps the planner from the indices of the states, where
-- "done" and "delivered" are nearly every row.
DROP VIEW releasable;
CREATE VIEW releasable AS
    SELECT j.series_uid, j.since FROM jobs j
    WHERE +j.state = 'done'
      AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid
                      AND n.revision > j.revision)
      AND NOT EXISTS (SELECT 1 FROM jobs e WHERE e.series_uid = j.series_uid
                      AND +e.state IN ('ready', 'analysing', 'composed', 'delivering'))
      AND EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id AND +d.state = 'delivered')
      AND EXISTS (SELECT 1 FROM instances i WHERE i.series_uid = j.series_uid
                  AND i.released_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM notifications m JOIN jobs o ON o.id = m.job_id
                      WHERE o.series_uid = j.series_uid AND +m.state = 'pending');
