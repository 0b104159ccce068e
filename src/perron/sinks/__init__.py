"""Adapters of `perron.sink`, one file each."""
