"""Numbered migrations, run at start in order."""
