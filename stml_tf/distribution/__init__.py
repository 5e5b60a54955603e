"""Several devices and several machines, and batches that are computed in pieces."""
