"""What only a training run needs: the trainer, folders, signals, resume, processes, snapshots."""
