"""What the models say of series in folders: one JSON object and one contact sheet a series."""

from training.readings.command import read

__all__ = ["read"]
