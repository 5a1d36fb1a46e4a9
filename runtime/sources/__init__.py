"""Where frames come from: cameras, streams, videos, photographs, standard input."""
