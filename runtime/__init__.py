"""What every script needs of the machine: the command line, files, devices, signals."""
