"""What tools/gpu_check.py measures on a GPU, and the goals that its numbers are held against."""
