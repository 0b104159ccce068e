"""Measurements that decide how a system is run: which load it bears, and with how many workers."""
