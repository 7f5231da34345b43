-- Earlier results of the same patient are looked up for every analysis.
CREATE INDEX instances_of_patient ON instances (patient_key, series_uid);
