"""The device: camera in, class and saliency out. It imports neither torch nor tensorrt."""

import os

# OpenCV reads both while it is imported, which is later than this line: a camera that hangs would block for ten
# seconds (here: two), and FFmpeg would write its own lines between ours.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
