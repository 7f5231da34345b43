"""Talks to other systems: C-STORE, STOW-RS, storage commitment, queries of an archive, HTTP."""
