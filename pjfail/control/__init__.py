"""The control socket: what another process of the same user can ask of an attached pjfail, and tell it.

``place`` says where the sockets lie, ``server`` serves one, ``commands`` has what it answers, ``service`` joins them to
an attachment; ``client`` asks. The protocol is in docs/howto/control.md.
"""
