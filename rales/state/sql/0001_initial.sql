-- The durable truth of the node. Times are ISO 8601 in UTC.

CREATE TABLE instances (
    sop_instance_uid    TEXT NOT NULL,
    content_digest      TEXT NOT NULL,
    series_uid          TEXT NOT NULL,
    study_uid           TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    patient_key         TEXT NOT NULL,
    path                TEXT NOT NULL,
    size                INTEGER NOT NULL,
    slice_position      REAL,
    expected_instances  INTEGER,
    calling_ae          TEXT NOT NULL,
    received_at         TEXT NOT NULL,
    current             INTEGER NOT NULL DEFAULT 1,  -- 0: replaced by other content under the same UID
    PRIMARY KEY (sop_instance_uid, content_digest)
) STRICT;

CREATE INDEX instances_of_series ON instances (series_uid, current);

CREATE TABLE jobs (
    id               INTEGER PRIMARY KEY,
    series_uid       TEXT NOT NULL,
    study_uid        TEXT NOT NULL,
    calling_ae       TEXT NOT NULL,
    revision         INTEGER NOT NULL,
    state            TEXT NOT NULL,
    since            TEXT NOT NULL,
    created_at       TEXT NOT NULL,
    reason           TEXT NOT NULL DEFAULT '',       -- machine-readable: a RejectReason or an error's name
    message          TEXT NOT NULL DEFAULT '',       -- one sentence for a person
    association_ended_at TEXT,                       -- while receiving; NULL: one is open
    instances_digest TEXT,
    instance_count   INTEGER NOT NULL DEFAULT 0,
    key              TEXT,                           -- AnalysisKey.value
    attempts         INTEGER NOT NULL DEFAULT 0,
    due_at           TEXT,                           -- not before
    result           TEXT,                           -- JSON: objects, findings in short, seconds
    UNIQUE (series_uid, revision)
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state, due_at);

CREATE TABLE job_events (
    id      INTEGER PRIMARY KEY,
    job_id  INTEGER NOT NULL REFERENCES jobs (id),
    at      TEXT NOT NULL,
    before  TEXT,
    after   TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_job ON job_events (job_id);

CREATE TABLE deliveries (
    job_id           INTEGER NOT NULL REFERENCES jobs (id),
    role             TEXT NOT NULL,
    destination      TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    state            TEXT NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0,
    created_at       TEXT NOT NULL,
    due_at           TEXT NOT NULL,
    settled_at       TEXT,
    status           INTEGER,                        -- the last DIMSE status
    message          TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, role, destination)
) STRICT;

CREATE INDEX deliveries_due ON deliveries (state, due_at);

CREATE TABLE node (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
