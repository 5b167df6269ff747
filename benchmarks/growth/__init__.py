"""The parts of `attention_growth.py`: candidates, engines, report."""
