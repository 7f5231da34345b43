"""Whether a reading stays the same when a scanner, a reconstruction or a header differs."""
