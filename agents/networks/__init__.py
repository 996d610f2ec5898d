"""Networks that several agents share."""
