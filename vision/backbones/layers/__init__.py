"""Layers that several backbone families share."""
