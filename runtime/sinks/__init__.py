"""Where readings and pictures go: files, videos, folders, behind a queue."""
