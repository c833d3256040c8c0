"""The commands: one file each. Options in, rooms called, results printed."""
