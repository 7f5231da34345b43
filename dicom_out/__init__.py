"""The result objects (SEG, SR, extras) and their delivery."""
