"""Reading and writing video files: with PyAV, as a player shows them (docs/videos.md lists what is understood).

Frames are uint8 RGB arrays (T, H, W, 3).
"""

from videoduet.video.clips import UNKNOWN_FPS, Clip, FrameSampling, MiddleFrames, Sampling, sample_clip
from videoduet.video.decord_reader import Reader, use_reader
from videoduet.video.reading import IMAGES, VIDEOS, count_frames, read_video, video_id, written
from videoduet.video.writing import SHORTEST, Format, animated, write_clip, write_video

__all__ = [
    "IMAGES",
    "SHORTEST",
    "UNKNOWN_FPS",
    "VIDEOS",
    "Clip",
    "Format",
    "FrameSampling",
    "MiddleFrames",
    "Reader",
    "Sampling",
    "animated",
    "count_frames",
    "read_video",
    "sample_clip",
    "use_reader",
    "video_id",
    "write_clip",
    "write_video",
    "written",
]
