"""The ensemble engine: many networks, or many starts of one function, trained as one computation."""
