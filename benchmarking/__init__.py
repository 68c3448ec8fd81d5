"""What benchmark.py times, and the plain implementation that it compares with."""
