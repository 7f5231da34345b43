"""The voice: SEG and SR objects, and their delivery."""
