"""The configuration file: its sections, peers and TLS."""
