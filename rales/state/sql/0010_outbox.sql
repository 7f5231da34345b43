-- What waits in the outbox: from each of these views both what is due and when the next is due are
-- read, so that no loop wakes for what it then does not find.
CREATE VIEW waiting_deliveries AS
    SELECT d.*, d.rowid AS number FROM deliveries d JOIN jobs j ON j.id = d.job_id
    WHERE d.state = 'pending' AND j.state = 'delivering';

CREATE VIEW waiting_commitments AS
    SELECT d.*, d.rowid AS number FROM deliveries d JOIN jobs j ON j.id = d.job_id
    WHERE d.state = 'stored' AND j.state = 'delivering';

-- A message waits for the earlier ones about the same series: a target never hears of the second
-- end of a series before the first.
CREATE VIEW waiting_notifications AS
    SELECT m.* FROM notifications m JOIN jobs j ON j.id = m.job_id
    WHERE m.state = 'pending' AND NOT EXISTS
        -- By way of the series, and not of all that waits: a target may be down for days.
        (SELECT 1 FROM jobs o CROSS JOIN notifications e ON e.job_id = o.id
         WHERE o.series_uid = j.series_uid AND +e.target = m.target
           AND +e.state = m.state AND e.id < m.id);
