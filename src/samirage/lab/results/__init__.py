"""Results: the run folder, the claims about it and the statistics that they need. No torch here."""
