"""Sources of frames: cameras, streams, videos, photographs, standard input; reconnecting the live ones."""
