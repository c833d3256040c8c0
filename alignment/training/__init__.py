"""From preference pairs to a generator."""
