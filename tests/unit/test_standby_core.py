"""The jobs of standby registrations, in the C core's own file, without a pjsip."""

from __future__ import annotations

from pathlib import Path

from rig.core import library

DECLARATIONS = "void standby_open(void (*wake)(void)); void standby_close(void);"
MAX_WAITING = 4096


def test_what_keeps_nats_open_does_not_pile_up_while_pjsips_thread_does_not_run(tmp_path: Path) -> None:
    ffi, lib = library(tmp_path / "standby.so", "standby.c hash_table.c host.c layout.c", DECLARATIONS)
    wake = ffi.callback("void()", lambda: None)
    server = ffi.new("pf_address *")

    def posted(job: int) -> int:
        return int(lib.pf_standby_job(job, 0, b"alice@sip.test", server, 0))

    for _ in range(2):  # the next attachment begins with none
        lib.standby_open(wake)
        assert sum(posted(lib.PF_STANDBY_KEEP_ALIVE) for _ in range(MAX_WAITING + 5)) == MAX_WAITING
        assert posted(lib.PF_STANDBY_END)
        lib.standby_close()
    assert not posted(lib.PF_STANDBY_END)
