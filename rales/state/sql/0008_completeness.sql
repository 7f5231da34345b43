-- arrivals: grows with every change of the images of a series while it is received; what was decided
-- on an earlier value is not done. associations: how many that brought some of it have ended.
ALTER TABLE jobs ADD COLUMN arrivals INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN associations INTEGER NOT NULL DEFAULT 0;
-- hold_until: the series was read early; until then what says that it may be a part is not told.
ALTER TABLE jobs ADD COLUMN hold_until TEXT;
