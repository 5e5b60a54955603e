"""The recipe, which defines a training run. Importing it is fast and loads no TensorFlow."""
