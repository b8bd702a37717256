"""One run: its model in training, its checkpoints, its folder, and the devices that it is computed on."""
