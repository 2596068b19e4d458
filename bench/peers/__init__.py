"""One file per library; each is the program of its own process (see worker.py)."""
