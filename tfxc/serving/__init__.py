"""Runs over HTTP: TensorFlow Serving's REST form, a simple one, and a page."""
