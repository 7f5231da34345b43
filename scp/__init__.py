"""The ear: receives instances, makes them durable, decides that a series is complete."""
