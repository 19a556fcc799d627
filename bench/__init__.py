"""What each claim of speed is measured with, beside its reference in the same run."""
