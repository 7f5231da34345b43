"""Guards around pynetdicom's internals: what pynetdicom 3.0.4 leaves open, closed from outside.

``scp`` and ``dicom_out.network`` both use this package; nothing else may. Each guard works around
a defect or a missing limit. ``docs/upstream/`` has, for each, how to reproduce it and the patch
that pynetdicom needs. pyproject.toml pins pynetdicom exactly, and
``tests/pynetdicom_guard/test_canary.py`` fails when a method that a guard replaces, calls or
relies on changes.

===============================  =================================================================
Guard                            What pynetdicom does without it
===============================  =================================================================
:mod:`.crash_guard`              An exception ends one of the two threads of an association; the
                                 other waits for ever with its socket open. The state machine reads
                                 on before it acts on what it has read.
:mod:`.sockets`                  Takes a PDU of any announced length; waits without limit for the
                                 rest of a PDU and for a peer that does not read.
:mod:`.limits`                   Counts silent and rejected connections as associations; leaves a
                                 C-STORE request without identifiers unanswered; leaks the socket
                                 of a connection that the peer closed first.
:mod:`.listener`                 Shakes hands over TLS inside the accept loop, so that one silent
                                 peer keeps all others out.
:mod:`.arrivals`                 Collects a data set in memory whatever its size, and queues
                                 requests that a peer sends without waiting for answers.
:mod:`.requestor`                As :mod:`.limits`, for associations that this node requests; keeps
                                 the process alive with threads that wait for a peer; hides why a
                                 TLS handshake failed.
:mod:`.reactor_gate`             Loses a response: the reactor takes it off the queue before the
                                 thread that waits for it.
:mod:`.data_path`                Takes ten times as long as the bytes of a C-STORE need: threads
                                 that poll, and objects for each PDU and command set.
===============================  =================================================================
"""
