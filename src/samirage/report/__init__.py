"""Figures, tables and the page, from stored results."""
