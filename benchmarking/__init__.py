"""What benchmark.py times, and the plain implementations it compares with."""
