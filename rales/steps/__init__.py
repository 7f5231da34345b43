"""The steps that a series passes: completeness, analysis, delivery, commitment, notification."""
