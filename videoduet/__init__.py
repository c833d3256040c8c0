"""What every room of VideoDuet stands on: records, the run directory, video files, seeds, config, progress."""

__version__ = "0.1.0"
