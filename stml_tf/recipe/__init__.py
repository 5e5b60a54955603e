"""The recipe: everything that decides a training run. Importing it is quick and loads no TensorFlow."""
