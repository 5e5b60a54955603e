"""A recipe becomes a result: the only room that knows the recipe and the leaves at once."""
