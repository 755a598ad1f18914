"""What is fed with whatever bytes, and must not mind: `python -m pytest tests/fuzz`, some minutes."""
