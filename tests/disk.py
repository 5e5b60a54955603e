"""Disks that are full, and bits that flip."""

import resource
from contextlib import contextmanager


@contextmanager
def at_most(size):
    """Every file may grow to so many bytes: a full disk, as far as one process can see."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def flipped_bits(file):
    """Flip each bit of a file in turn."""
    with file.open("r+b", buffering=0) as stream:
        for place, byte in enumerate(file.read_bytes()):
            for bit in range(8):
                stream.seek(place)
                stream.write(bytes([byte ^ 1 << bit]))
                yield place, bit
            stream.seek(place)
            stream.write(bytes([byte]))
