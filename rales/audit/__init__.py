"""The audit trail (PS3.15 annex A.5): who sent instances of which patient to whom.

Audit messages name patients, as the standard requires; no other output of the node does. A thread
of its own builds and sends them from a bounded queue, so that a slow or unreachable audit
repository never delays the work that is audited.
"""
