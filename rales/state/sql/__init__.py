"""The numbered scripts that build the schema of the state file."""
