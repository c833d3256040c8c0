"""Scores generators."""
