"""The body: configuration, durable state, pipeline, command line."""
