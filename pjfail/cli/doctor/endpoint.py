"""An endpoint made by pjsip's own C functions, whose arguments are the same in every version. So it works with any
pjsip, also with one without pjsua2.
"""

from __future__ import annotations

import ctypes
import re
import socket
import struct
from types import TracebackType
from typing import Self

from ...errors import PjsipError

# pjsua.h
_INITIALISED = 2
_WITHOUT_NETWORK = 3

# sip_auth.h: pjsip_auth_algorithm_type, the same since there is one (2.15); the names are RFC 8760's.
_DIGESTS = {1: "MD5", 2: "SHA-256", 3: "SHA-512-256"}
# config.h: PJ_SSL_SOCK_MAX_CIPHERS
_MOST_CIPHERS = 256

_LOOPBACK = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("127.0.0.1"))
_LOOPBACK6 = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, "::1"), 0)
_SETTING = re.compile(rb"(\bPJ_\w+)[\s:]+(.*?)\s*$")
_LogFunction = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(ctypes.c_char), ctypes.c_int)


class Endpoint:
    """pjsua with default settings, within a ``with`` block, from the loaded object *path* (None: the main program).

    If pjsua has been created already, that one is used and stays. Use it on the thread that made it, in a process of
    the doctor's own: pjsip's threads call into Python when they log.
    """

    def __init__(self, path: str | None) -> None:
        self._pjsip = ctypes.CDLL(path)
        self._pjsip.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
        self._ours = False

    @property
    def version(self) -> str | None:
        """Returns pjsip's version, also before an endpoint exists; None if the function for it is not exported."""
        if not hasattr(self._pjsip, "pj_get_version"):
            return None
        self._pjsip.pj_get_version.restype = ctypes.c_char_p
        return str(self._pjsip.pj_get_version().decode("ascii", "replace"))

    def __enter__(self) -> Self:
        """Raises :class:`pjfail.PjsipError`."""
        state = self._pjsip.pjsua_get_state()
        if state < _INITIALISED:
            self._ours = True
            self._pjsip.pj_log_set_level(0)
            if not state:
                self._require("pjsua_create()", self._pjsip.pjsua_create())
            self._require("pjsua_init()", self._pjsip.pjsua_init(None, None, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            self._pjsip.pjsua_destroy2(_WITHOUT_NETWORK)

    def build(self) -> dict[str, str]:
        """Returns pjlib's settings, from its log; nothing if pjlib was built without logging."""
        said: list[bytes] = []
        # Kept, because a thread of pjsip may still be in it.
        self._log = _LogFunction(lambda _level, line, length: said.append(line[:length]))
        self._pjsip.pj_log_get_log_func.restype = ctypes.c_void_p
        log, level = ctypes.c_void_p(self._pjsip.pj_log_get_log_func()), self._pjsip.pj_log_get_level()
        self._pjsip.pj_log_set_log_func(self._log)
        self._pjsip.pj_log_set_level(3)
        self._pjsip.pj_dump_config()
        self._pjsip.pj_log_set_level(level)
        self._pjsip.pj_log_set_log_func(log)
        found = [match.groups() for line in said if (match := _SETTING.search(line))]
        return {name.decode(): value.decode("utf-8", "replace") for name, value in found}

    def digests(self) -> tuple[str, ...] | None:
        """Returns the algorithms in which pjsip can answer a challenge now; None: this version does not say."""
        if not hasattr(self._pjsip, "pjsip_auth_is_algorithm_supported"):
            return None
        return tuple(_DIGESTS[each] for each in _DIGESTS if self._pjsip.pjsip_auth_is_algorithm_supported(each))

    def list_ciphers(self) -> None:
        """Does what pjsua2's ``utilSslGetAvailableCiphers()`` does, which initialises OpenSSL."""
        if hasattr(self._pjsip, "pj_ssl_cipher_get_availables"):
            count = ctypes.c_uint(_MOST_CIPHERS)
            self._pjsip.pj_ssl_cipher_get_availables((ctypes.c_int * _MOST_CIPHERS)(), ctypes.byref(count))

    def has_tls(self) -> bool:
        """Returns whether a TLS transport can be created."""
        return hasattr(self._pjsip, "pjsip_tls_transport_start2") and self._starts(
            self._pjsip.pjsip_tls_transport_start2, None, _LOOPBACK, None, 1
        )

    def has_ipv6(self) -> bool:
        """Returns whether a UDP transport can be created on the loopback address of IPv6."""
        return self._starts(self._pjsip.pjsip_udp_transport_start6, _LOOPBACK6, None, 1)

    def has_dns_resolver(self) -> bool:
        return self._starts(self._pjsip.pjsip_endpt_create_resolver)

    def _starts(self, function: ctypes._NamedFuncPointer, *arguments: bytes | int | None) -> bool:
        """Returns whether *function* creates a transport; it ends with the endpoint."""
        endpoint = ctypes.c_void_p(self._pjsip.pjsua_get_pjsip_endpt())
        made = ctypes.c_void_p()
        return bool(function(endpoint, *arguments, ctypes.byref(made)) == 0)

    def _require(self, what: str, status: int) -> None:
        if status:
            text = ctypes.create_string_buffer(128)
            self._pjsip.pj_strerror(status, text, len(text))
            raise PjsipError(what, status, text.value.decode("utf-8", "replace"))
