"""Training: optimizers, schedules, losses, sampling, augmentation."""
