"""Compilers of a contract: each turns a Schema into another description of the same thing. They describe; only `perron.check` judges."""
