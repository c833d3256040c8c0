"""Judges: one interface, many backends."""
