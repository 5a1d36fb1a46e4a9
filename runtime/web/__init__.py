"""A live page for boxes without a screen: the picture and its reading in a browser. Needs the extra `web`."""
