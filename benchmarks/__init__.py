"""Measurements: run from a checkout, never as tests."""
