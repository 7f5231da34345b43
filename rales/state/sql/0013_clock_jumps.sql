-- What the clock of this machine skipped: it was set ahead (seconds > 0) or back (< 0), or the node
-- did not run. "at" is the time after it. Durations that decide (give up, release) leave it out.
CREATE TABLE clock_jumps (
    at      TEXT NOT NULL,
    seconds REAL NOT NULL
) STRICT;
