"""``python -m pjfail probe``: sends an OPTIONS to every server of a URI, through its own pjsip."""
