"""Sentences: the grammar, the vocabulary, captions files."""
