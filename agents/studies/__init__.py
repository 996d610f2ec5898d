"""Programs about agents."""
