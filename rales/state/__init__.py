"""What the node remembers: the state file, its schema, the results of an analysis."""
