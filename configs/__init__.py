"""Recipes: one YAML file per thing a user would run."""
