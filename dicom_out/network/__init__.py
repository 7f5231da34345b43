"""How results leave: C-STORE, STOW-RS, storage commitment, queries for prior reports."""
