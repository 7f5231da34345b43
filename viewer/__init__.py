"""Shows studies and their results from a real PACS in OHIF, for ``make viewer``.

For development: the wheel has none of it.
"""
