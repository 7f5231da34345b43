"""Messages to other systems about what became of a series: a webhook, a FHIR server."""
