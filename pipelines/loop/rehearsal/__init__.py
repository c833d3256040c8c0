"""A rehearsal: the user's own run at its smallest, in a directory of its own, to find what would fail later."""
