"""``python -m pjfail probe``: every server of a URI asked with an OPTIONS, through a pjsip of its own."""
