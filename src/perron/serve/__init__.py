"""Answers requests with a bundle; imports nothing that trains."""
