"""What a person can do with a trained model by hand: the functions of demo.py and of the notebook's last cells."""
