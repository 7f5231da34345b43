"""Runs the main job from end to end on this machine, for ``make demo`` and ``make viewer``."""
