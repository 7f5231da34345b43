-- Who is told of what: one row for each configured target and each final state that it wants.
CREATE TABLE notification_targets (
    name  TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (name, event)
) STRICT;

-- The outbox: one row for each message to one target. What it says of the job is what was true then.
CREATE TABLE notifications (
    id          INTEGER PRIMARY KEY,
    message_id  TEXT NOT NULL,                    -- the same in every attempt
    job_id      INTEGER NOT NULL REFERENCES jobs (id),
    target      TEXT NOT NULL,
    event       TEXT NOT NULL,                    -- the state that the job came to
    occurred_at TEXT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',
    why         TEXT NOT NULL DEFAULT '',         -- the job's message then
    state       TEXT NOT NULL DEFAULT 'pending',  -- pending, delivered, refused
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      TEXT NOT NULL,
    settled_at  TEXT,
    status      INTEGER,                          -- the last HTTP status
    message     TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX notifications_due ON notifications (state, target, id);
CREATE INDEX notifications_of_job ON notifications (job_id);

-- Part of whatever transaction ends a job: no end of a job is without its messages.
CREATE TRIGGER notify_of_end AFTER UPDATE OF state ON jobs
WHEN NEW.state IS NOT OLD.state
BEGIN
    INSERT INTO notifications
        (message_id, job_id, target, event, occurred_at, reason, why, due_at)
    SELECT lower(hex(randomblob(16))), NEW.id, name, NEW.state, NEW.since, NEW.reason,
           NEW.message, NEW.since
    FROM notification_targets WHERE event = NEW.state ORDER BY name;
END;

-- As in 0004, and: images and results are kept while a message that is made of them waits.
DROP VIEW releasable;
CREATE VIEW releasable AS
    SELECT j.series_uid, j.since FROM jobs j
    WHERE j.state = 'done'
      AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid
                      AND n.revision > j.revision)
      AND EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id AND d.state = 'delivered')
      AND EXISTS (SELECT 1 FROM instances i WHERE i.series_uid = j.series_uid
                  AND i.released_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM notifications m JOIN jobs o ON o.id = m.job_id
                      WHERE o.series_uid = j.series_uid AND m.state = 'pending');
