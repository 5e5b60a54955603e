"""How image files are laid out: what tells one format from another, and one decoder a format.

The decoders are TensorFlow graphs, so that a SavedModel and Python run the very same ones.
"""
