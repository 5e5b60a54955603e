"""Web pages: one file each, with everything in it. The templates lie in `templates/`; what they show comes as data."""
