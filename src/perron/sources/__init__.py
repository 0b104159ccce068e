"""Adapters of `perron.source`, one file each."""
