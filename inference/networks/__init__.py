"""The networks: manifest, sessions, the form of their input and output."""
