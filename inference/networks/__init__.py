"""Runs the networks: manifests, sessions, inputs and outputs."""
