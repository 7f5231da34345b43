"""Receives instances by C-STORE and makes them durable."""
