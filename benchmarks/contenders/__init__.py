"""What `fine_tuning.py` compares: each in a process of its own."""
