"""From the files of a series to a volume in Hounsfield units."""
