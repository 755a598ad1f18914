"""Benchmarks, each beside what stock pjsip does in the same run: ``python -m bench``."""
