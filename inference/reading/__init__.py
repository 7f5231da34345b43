"""From a volume to lungs, lesions and measurements."""
