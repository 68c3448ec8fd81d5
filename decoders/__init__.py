"""The parts of the scene decoders."""
