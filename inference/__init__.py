"""Analyses a chest CT: loads the series, runs the networks, and measures the masks."""
