"""Adapters of `perron.delivery.Target`: what runs servers, one file each."""
