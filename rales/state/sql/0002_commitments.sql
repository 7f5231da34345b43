-- Storage commitment (PS3.4 annex J): what was asked of a destination, and what it answered.
-- A delivery in the state "stored" waits for it; transaction_uid is the request that counts now.

ALTER TABLE deliveries ADD COLUMN transaction_uid TEXT;

CREATE TABLE commitments (
    transaction_uid  TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    job_id           INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    role             TEXT NOT NULL,
    destination      TEXT NOT NULL,
    requested_at     TEXT NOT NULL,
    answered_at      TEXT,                           -- NULL: no report has named it
    failure_reason   INTEGER,                        -- (0008,1197); NULL when answered: committed
    PRIMARY KEY (transaction_uid, sop_instance_uid)
) STRICT;

CREATE INDEX commitments_of_delivery ON commitments (job_id, role, destination);
