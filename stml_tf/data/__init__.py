"""Data: catalogues of images, how they are read, how they become views and batches.

Nothing is imported here: listing a data set must not wait for TensorFlow, which the views and batches need.
"""
