"""A user's captions: reading a file of them (`reader`), and a training set made from it (`dataset`)."""

FORMATS = ("auto", "text", "csv", "tsv", "json", "jsonl")  # values of --captions_format
