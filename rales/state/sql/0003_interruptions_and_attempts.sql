-- interruptions: how often the node was killed while it analysed this job.
ALTER TABLE jobs ADD COLUMN interruptions INTEGER NOT NULL DEFAULT 0;

-- sent: the object may be at the destination: a request went out, and no answer said that it is not.
ALTER TABLE deliveries ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
