"""Generators of files: pure functions from a declaration to {path: text}."""
