"""The C core's hash table: strangers choose what is in it, and cannot choose which of it shares a bucket."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from rig.core import program as compiled

LENGTHS = (*range(1, 34), 57, 255, 256, 4000)

# Reads lengths and octets; prints their hashes, under a key of zeros where there is an argument.
DRIVER = """
    #include "hash_table.c"
    #include <stdio.h>
    int main(int count, char **arguments)
    {
        static unsigned char octets[4096];
        size_t size;
        (void)arguments;
        if (count > 1)
            memset(hash_table_key, 0, sizeof hash_table_key);
        while (fread(&size, sizeof size, 1, stdin) == 1 && fread(octets, 1, size, stdin) == size)
            printf("%llu\\n", (unsigned long long)hash_bytes(HASH_SEED, octets, size));
        return 0;
    }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("table") / "hash", DRIVER)


def hashes(program: Path, strings: list[bytes], *arguments: str) -> list[int]:
    written = b"".join(len(each).to_bytes(8, sys.byteorder) + each for each in strings)
    return [int(line) for line in subprocess.check_output([program, *arguments], input=written, timeout=10).split()]


def test_the_key_is_drawn_when_the_core_is_loaded(program: Path) -> None:
    strings = [f"call-{index}@192.0.2.1".encode() for index in range(64)]
    one, other = hashes(program, strings), hashes(program, strings)
    assert len(one) == len(set(one)) == 64
    assert not set(one) & set(other)


def test_it_is_siphash_1_3_as_python_has_it(program: Path) -> None:
    assert sys.hash_info.algorithm == "siphash13"
    source = random.Random(13)
    strings = [source.randbytes(length) for length in LENGTHS]
    code = "import sys\nfor line in sys.stdin: print(hash(bytes.fromhex(line)) % 2**64)"
    said = subprocess.check_output(
        [sys.executable, "-c", code],
        input="\n".join(each.hex() for each in strings),
        env={**os.environ, "PYTHONHASHSEED": "0"},
        text=True,
        timeout=10,
    )
    assert hashes(program, strings, "zeros") == [int(line) for line in said.split()]


MANY = 100_000

# Puts entries of one hash in, takes out the older half, then the rest; prints how many it finds each time.
ONE_HASH = f"""
    #include "hash_table.c"
    #include <stdio.h>
    static unsigned found(const struct hash_table *table)
    {{
        struct hash_link *link = hash_table_first(table, 7);
        unsigned count = 0;
        for (; link; link = hash_table_next(link))
            count++;
        return count;
    }}
    int main(void)
    {{
        static struct hash_link links[{MANY}], other = {{ .hash = 7 + (1ull << 40) }};
        struct hash_table table = {{ .size = 0 }};
        size_t i;
        hash_table_put(&table, &other);
        for (i = 0; i < {MANY}; i++) {{
            links[i].hash = 7;
            hash_table_put(&table, &links[i]);
        }}
        printf("%u ", found(&table));
        for (i = 0; i < {MANY} / 2; i++)
            hash_table_remove(&table, &links[i]);
        printf("%u %d ", found(&table), hash_table_first(&table, other.hash) == &other);
        for (; i < {MANY}; i++)
            hash_table_remove(&table, &links[i]);
        hash_table_remove(&table, &other);
        printf("%u %d\\n", found(&table), hash_table_is_empty(&table));
        return 0;
    }}
"""


def test_many_entries_of_one_hash_come_out_without_a_walk_over_them(tmp_path: Path) -> None:
    """The attempts at one server share a hash: as many end in a moment when it fails."""
    made = compiled(tmp_path / "one", ONE_HASH)
    said = subprocess.check_output([made], timeout=5, text=True)
    assert said.split() == [str(MANY), str(MANY // 2), "1", "0", "1"]


def test_no_two_addresses_in_memory_have_one_hash_and_neighbours_do_not_share_a_bucket(tmp_path: Path) -> None:
    source = """
        #include "hash_table.c"
        #include <stdio.h>
        int main(void)
        {
            uintptr_t at;
            for (at = 0x7f0000001000; at < 0x7f0000001000 + 64 * 1024; at += 1024)
                printf("%llu\\n", (unsigned long long)hash_pointer((void *)at));
            return 0;
        }
    """
    printed = subprocess.check_output([compiled(tmp_path / "pointers", source)], timeout=10, text=True)
    values = [int(line) for line in printed.split()]
    assert len(set(values)) == len(values) == 64
    assert len({value % 64 for value in values}) > 24
