"""From comparisons to preference pairs."""
