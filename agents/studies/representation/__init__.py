"""What a backbone knows: frames with labels, pretraining, probing, transfer to agents."""
