"""Delineates lungs and lesions in a volume, and measures them."""
