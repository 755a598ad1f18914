"""The only package that touches the C core: values in, values out; a file for each concern, as the core has them.

Every function may be called from any Python thread, unless it says otherwise; the GIL is released inside. The core's
locks are held for microseconds, and no Python runs under them.
"""
