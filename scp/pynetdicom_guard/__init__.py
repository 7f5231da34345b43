"""Guards around pynetdicom's internals, each for what pynetdicom 3.0.4 leaves open.

- :mod:`~scp.pynetdicom_guard.limits`: see there.
"""
