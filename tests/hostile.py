"""Code that comes along in data: pickles that make a folder, whose presence tells that the code was run."""

import io
import os
import pickle

import numpy as np


class Harmful:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def makes_folder(mark):
    return Harmful(os.mkdir, str(mark))


def harmful_pickle(mark):
    return pickle.dumps(makes_folder(mark))


def harmful_npy(mark, *, count=1):
    """The content of a `.npy` file of objects."""
    content = io.BytesIO()
    np.save(content, np.array([makes_folder(mark)] * count), allow_pickle=True)
    return content.getvalue()


def harmful_npz(mark, name):
    """The content of a `.npz` file with an array of objects."""
    content = io.BytesIO()
    np.savez(content, **{name: np.array([makes_folder(mark)])})
    return content.getvalue()
