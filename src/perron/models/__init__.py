"""Fitted models in, ONNX graphs out: one adapter module for each library."""
