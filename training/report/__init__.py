"""The evaluation report: measure, compute, draw, write; ``report`` is the command."""

from training.report.command import report

__all__ = ["report"]
