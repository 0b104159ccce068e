"""Adapters of `perron.batch.Runner`: where the chunks of a batch are predicted."""
