"""The node: starts, stops, repairs, backs up."""
