"""The audit trail (PS3.15 annex A.5): who sent what of whom to whom, for the auditor.

Messages name patients, on purpose and nowhere else. They are made and sent in a thread of
their own behind a bounded queue: an audit repository that is slow or gone never holds up
what it audits.
"""
