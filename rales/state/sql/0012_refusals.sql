-- What was refused at the door: how often, to whom, why, and when first and last.
CREATE TABLE refusals (
    ae_title  TEXT NOT NULL,
    address   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    reason    TEXT NOT NULL,
    count     INTEGER NOT NULL,
    first_at  TEXT NOT NULL,
    last_at   TEXT NOT NULL,
    PRIMARY KEY (ae_title, address, kind, reason)
) WITHOUT ROWID;
