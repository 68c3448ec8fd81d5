"""What benchmark.py times, and the plain implementation it compares with."""
