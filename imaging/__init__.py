"""Filters, color spaces and fonts of pictures."""
