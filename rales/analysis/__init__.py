"""The analysis of one series, and its comparison with the prior study."""
