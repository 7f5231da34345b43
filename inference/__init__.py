"""The eye: slices to a Hounsfield volume, networks, masks and measurements."""
