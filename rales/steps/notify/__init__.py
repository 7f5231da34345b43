"""Messages to other systems about the end of a series: a webhook, a FHIR server."""
