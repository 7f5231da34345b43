-- The state file of one node. Times are ISO 8601 in UTC, with microseconds, so that text order is
-- time order. Files are named by their path below the data directory.
--
-- Loops ask some questions every second, and C-STORE asks others while the sender waits. Triggers
-- keep counts and partial indexes hold only open work, so that no answer gets slower with the number
-- of rows that the node has ever written.

-- ---------------------------------------------------------------------------------------------
-- Received instances

CREATE TABLE instances (
    sop_instance_uid    TEXT NOT NULL,
    content_digest      TEXT NOT NULL,               -- SHA-256 of the encoded data set
    value_digest        TEXT NOT NULL DEFAULT '',    -- the same in every uncompressed transfer syntax
    series_uid          TEXT NOT NULL,
    study_uid           TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    patient_key         TEXT NOT NULL,               -- keyed digest of the patient's identity
    path                TEXT NOT NULL,
    size                INTEGER NOT NULL,            -- bytes
    slice_position      REAL,                        -- mm along the slice normal
    expected_instances  INTEGER,                     -- as the sender announced
    calling_ae          TEXT NOT NULL,
    received_at         TEXT NOT NULL,
    current             INTEGER NOT NULL DEFAULT 1,  -- 0: other content replaced it under the same UID
    faulty              INTEGER NOT NULL DEFAULT 0,  -- 1: the last analysis could not read the file
    released_at         TEXT,                        -- when retention released the file; NULL: keep it
    gone                INTEGER NOT NULL DEFAULT 0,  -- 1: the released file is off the disk
    PRIMARY KEY (sop_instance_uid, content_digest)
) STRICT;

CREATE INDEX instances_of_series ON instances (series_uid, current);
CREATE INDEX instances_of_patient ON instances (patient_key, series_uid);
CREATE INDEX instances_faulty ON instances (series_uid) WHERE faulty = 1;
CREATE INDEX instances_to_purge ON instances (gone, released_at) WHERE released_at IS NOT NULL;

-- One row: number and bytes of the images that retention has not released.
CREATE TABLE kept (
    images INTEGER NOT NULL,
    size   INTEGER NOT NULL
) STRICT;
INSERT INTO kept VALUES (0, 0);

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

-- ---------------------------------------------------------------------------------------------
-- Jobs: one analysis of one revision of one series

CREATE TABLE jobs (
    id                   INTEGER PRIMARY KEY,
    series_uid           TEXT NOT NULL,
    study_uid            TEXT NOT NULL,
    calling_ae           TEXT NOT NULL,
    revision             INTEGER NOT NULL,
    state                TEXT NOT NULL,                 -- chestct.states.JobState
    since                TEXT NOT NULL,                 -- when the job entered this state
    created_at           TEXT NOT NULL,
    reason               TEXT NOT NULL DEFAULT '',      -- for programs: a RejectReason or an error name
    message              TEXT NOT NULL DEFAULT '',      -- for people: one sentence
    accession_key        TEXT NOT NULL DEFAULT '',      -- digest of the first image's Accession Number
    -- While the job is RECEIVING:
    association_ended_at TEXT,                          -- the last release; NULL: still open, or aborted
    associations         INTEGER NOT NULL DEFAULT 0,    -- ended associations that brought images
    arrivals             INTEGER NOT NULL DEFAULT 0,    -- grows with each change of the images
    -- Set when the series is declared complete:
    instances_digest     TEXT,
    instance_count       INTEGER NOT NULL DEFAULT 0,
    hold_until           TEXT,                          -- read early: may still prove to be a part
    shortfall            TEXT NOT NULL DEFAULT '',      -- how many images are missing, and who says so
    -- The analysis:
    attempts             INTEGER NOT NULL DEFAULT 0,
    interruptions        INTEGER NOT NULL DEFAULT 0,    -- node crashes during the analysis
    mended               INTEGER NOT NULL DEFAULT 0,    -- resends of an image that a job found faulty
    due_at               TEXT,                          -- not before this time
    key                  TEXT,                          -- AnalysisKey.value
    result               TEXT,                          -- JSON: rales.state.results
    released_at          TEXT,                          -- when retention released images and results
    -- Kept by triggers:
    holds                INTEGER NOT NULL DEFAULT 1,    -- 1: images of the series are kept
    overtaken            INTEGER NOT NULL DEFAULT 0,    -- 1: the series has a later revision
    open_deliveries      INTEGER NOT NULL DEFAULT 0,    -- deliveries that are pending or stored
    UNIQUE (series_uid, revision)
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state, due_at);
CREATE INDEX jobs_by_time ON jobs (since);
CREATE INDEX jobs_of_accession ON jobs (accession_key) WHERE accession_key <> '';
CREATE INDEX jobs_to_claim ON jobs (coalesce(due_at, since), id) WHERE state = 'ready';
CREATE INDEX jobs_to_finish ON jobs (id) WHERE state = 'delivering' AND open_deliveries = 0;
CREATE INDEX jobs_overtaken ON jobs (id) WHERE overtaken = 1 AND state = 'delivering';
CREATE INDEX jobs_holding ON jobs (created_at) WHERE holds = 1;
CREATE INDEX jobs_to_release ON jobs (since, id) WHERE holds = 1 AND state = 'done';

CREATE TRIGGER holds_new AFTER INSERT ON instances WHEN NEW.released_at IS NULL
BEGIN
    UPDATE jobs SET holds = 1 WHERE series_uid = NEW.series_uid AND holds = 0;
END;
CREATE TRIGGER holds_again AFTER UPDATE OF released_at ON instances
WHEN NEW.released_at IS NULL AND OLD.released_at IS NOT NULL
BEGIN
    UPDATE jobs SET holds = 1 WHERE series_uid = NEW.series_uid AND holds = 0;
END;
CREATE TRIGGER overtake AFTER INSERT ON jobs
BEGIN
    UPDATE jobs SET overtaken = 1
        WHERE series_uid = NEW.series_uid AND revision < NEW.revision AND overtaken = 0;
END;

-- The audit trail of a job: one row for each change of its state.
CREATE TABLE job_events (
    id      INTEGER PRIMARY KEY,
    job_id  INTEGER NOT NULL REFERENCES jobs (id),
    at      TEXT NOT NULL,
    before  TEXT,
    after   TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_job ON job_events (job_id);

-- ---------------------------------------------------------------------------------------------
-- The outbox: deliveries, storage commitments, notifications. A waiting_* view says what waits; both
-- the selection of due items and the time of the next wake-up read it.

-- One result object to one destination. A stored delivery waits for the destination's commitment.
CREATE TABLE deliveries (
    job_id           INTEGER NOT NULL REFERENCES jobs (id),
    role             TEXT NOT NULL,                  -- which result object: seg, sr, ...
    destination      TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    state            TEXT NOT NULL,                  -- chestct.states.DeliveryState
    attempts         INTEGER NOT NULL DEFAULT 0,
    sent             INTEGER NOT NULL DEFAULT 0,     -- requests that may have stored the object
    created_at       TEXT NOT NULL,
    due_at           TEXT NOT NULL,                  -- stored: when to request commitment, or give up waiting
    settled_at       TEXT,
    status           INTEGER,                        -- the last DIMSE or HTTP status
    message          TEXT NOT NULL DEFAULT '',
    transaction_uid  TEXT,                           -- the open storage commitment request
    PRIMARY KEY (job_id, role, destination)
) STRICT;

CREATE INDEX deliveries_due ON deliveries (state, due_at);

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

CREATE VIEW waiting_deliveries AS
    SELECT d.*, d.rowid AS number FROM deliveries d JOIN jobs j ON j.id = d.job_id
    WHERE d.state = 'pending' AND j.state = 'delivering';

CREATE VIEW waiting_commitments AS
    SELECT d.*, d.rowid AS number FROM deliveries d JOIN jobs j ON j.id = d.job_id
    WHERE d.state = 'stored' AND j.state = 'delivering';

-- Storage commitment (PS3.4 annex J): each object of each request, and the destination's answer.
CREATE TABLE commitments (
    transaction_uid  TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    job_id           INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    role             TEXT NOT NULL,
    destination      TEXT NOT NULL,
    requested_at     TEXT NOT NULL,
    answered_at      TEXT,                           -- NULL: no report has named the object
    failure_reason   INTEGER,                        -- (0008,1197); NULL in an answer: committed
    PRIMARY KEY (transaction_uid, sop_instance_uid)
) STRICT;

CREATE INDEX commitments_of_delivery ON commitments (job_id, role, destination);

-- Which final job states each configured target wants to hear of.
CREATE TABLE notification_targets (
    name  TEXT NOT NULL,
    event TEXT NOT NULL,                             -- chestct.states.JobState
    PRIMARY KEY (name, event)
) STRICT;

-- One message to one target about the end of one job, as the job was at that moment.
CREATE TABLE notifications (
    id          INTEGER PRIMARY KEY,
    message_id  TEXT NOT NULL,                       -- the same in every attempt
    job_id      INTEGER NOT NULL REFERENCES jobs (id),
    target      TEXT NOT NULL,
    event       TEXT NOT NULL,                       -- the final state of the job
    occurred_at TEXT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',            -- jobs.reason
    why         TEXT NOT NULL DEFAULT '',            -- jobs.message
    state       TEXT NOT NULL DEFAULT 'pending',     -- pending, delivered, refused, withdrawn
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      TEXT NOT NULL,
    settled_at  TEXT,
    status      INTEGER,                             -- the last HTTP status
    message     TEXT NOT NULL DEFAULT ''             -- the result of the last attempt
) STRICT;

CREATE INDEX notifications_due ON notifications (state, target, id);
CREATE INDEX notifications_of_job ON notifications (job_id);

-- Runs in the transaction that ends a job: no job ends without its messages.
CREATE TRIGGER notify_of_end AFTER UPDATE OF state ON jobs
WHEN NEW.state IS NOT OLD.state
BEGIN
    INSERT INTO notifications
        (message_id, job_id, target, event, occurred_at, reason, why, due_at)
    SELECT lower(hex(randomblob(16))), NEW.id, name, NEW.state, NEW.since, NEW.reason,
           NEW.message, NEW.since
    FROM notification_targets WHERE event = NEW.state ORDER BY name;
END;

-- A message waits for earlier messages about the same series: no target hears of the second end of a
-- series before the first. The subquery starts from the series, not from all pending messages of the
-- target: a target may be down for days.
CREATE VIEW waiting_notifications AS
    SELECT m.* FROM notifications m JOIN jobs j ON j.id = m.job_id
    WHERE m.state = 'pending' AND NOT EXISTS
        (SELECT 1 FROM jobs o CROSS JOIN notifications e ON e.job_id = o.id
         WHERE o.series_uid = j.series_uid AND +e.target = m.target
           AND +e.state = m.state AND e.id < m.id);

-- ---------------------------------------------------------------------------------------------
-- Retention

-- Series that retention may release. The newest revision is done, so nothing is pending, refused or
-- waiting for commitment, and something was delivered: an undelivered result is the only copy. No
-- earlier revision is still under way, and no notification about the series is pending. Queries name
-- one series; each "+" keeps the planner from an index on states, where "done" and "delivered" are
-- nearly every row.
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

-- ---------------------------------------------------------------------------------------------
-- The node

-- Facts about the node, by name: what `rales status` shows, and when the node was last running.
CREATE TABLE node (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Jumps of the system clock: set ahead (seconds > 0), set back (< 0), or the node was off. Durations
-- that end something (give up, release) leave them out.
CREATE TABLE clock_jumps (
    at      TEXT NOT NULL,                           -- the time after the jump
    seconds REAL NOT NULL
) STRICT;

-- What the receiver refused, counted per peer and reason.
CREATE TABLE refusals (
    ae_title  TEXT NOT NULL,
    address   TEXT NOT NULL,
    kind      TEXT NOT NULL,                         -- scp.ports.Refused
    reason    TEXT NOT NULL,
    count     INTEGER NOT NULL,
    first_at  TEXT NOT NULL,
    last_at   TEXT NOT NULL,
    PRIMARY KEY (ae_title, address, kind, reason)
) WITHOUT ROWID;
