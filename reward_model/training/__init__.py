"""How a judge learns."""
