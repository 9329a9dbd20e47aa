"""The YAML config and the environment, read once into frozen settings.

Every mistake is found in one pass and reported by its key, with what was
expected. Nothing here opens the database, and nothing below imports this.
"""
