"""Loads the files of a series as a volume in Hounsfield units."""
