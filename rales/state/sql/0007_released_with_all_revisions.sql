-- As in 0006, and: an earlier revision that something of may be at a destination is completed there,
-- and by the newest revision named as its predecessor; its results are kept until it has ended.
DROP VIEW releasable;
CREATE VIEW releasable AS
    SELECT j.series_uid, j.since FROM jobs j
    WHERE j.state = 'done'
      AND NOT EXISTS (SELECT 1 FROM jobs n WHERE n.series_uid = j.series_uid
                      AND n.revision > j.revision)
      AND NOT EXISTS (SELECT 1 FROM jobs e WHERE e.series_uid = j.series_uid
                      AND e.state IN ('ready', 'analysing', 'composed', 'delivering'))
      AND EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id AND d.state = 'delivered')
      AND EXISTS (SELECT 1 FROM instances i WHERE i.series_uid = j.series_uid
                  AND i.released_at IS NULL)
      AND NOT EXISTS (SELECT 1 FROM notifications m JOIN jobs o ON o.id = m.job_id
                      WHERE o.series_uid = j.series_uid AND m.state = 'pending');
