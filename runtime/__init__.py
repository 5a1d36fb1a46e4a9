"""The device: camera in, class and saliency out. Imports neither torch nor tensorrt."""
