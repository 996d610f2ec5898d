"""Representation study: labeled frames, pretraining, linear probes, and transfer of backbones to agents."""
