"""What evaluate.py measures, what it compares with, and the page it makes."""
