"""The run: its config, its phases, what they hand on."""
