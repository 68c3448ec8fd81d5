"""Filters and color spaces of pictures, for networks, losses and measures alike."""
