"""Runs, which turn a recipe into a result: the only room that knows both the recipe and the leaves."""
