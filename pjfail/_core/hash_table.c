#include "hash_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

struct hash_link *hash_table_first(const struct hash_table *table, uint64_t hash)
{
    struct hash_link *link;

    if (!table->size)
        return NULL;
    link = table->buckets[hash & (table->size - 1)];
    while (link && link->hash != hash)
        link = link->next;
    return link;
}

struct hash_link *hash_table_next(const struct hash_link *link)
{
    uint64_t hash = link->hash;
    struct hash_link *next = link->next;

    while (next && next->hash != hash)
        next = next->next;
    return next;
}

static void hash_table_insert(struct hash_table *table, struct hash_link *link)
{
    struct hash_link **bucket = &table->buckets[link->hash & (table->size - 1)];

    link->next = *bucket;
    link->place = bucket;
    if (link->next)
        link->next->place = &link->next;
    *bucket = link;
}

static int hash_table_grow(struct hash_table *table)
{
    struct hash_table grown = { .size = table->size ? table->size * 2 : 64 };
    size_t i;

    grown.buckets = calloc(grown.size, sizeof *grown.buckets);
    if (!grown.buckets)
        return 0;
    for (i = 0; i < table->size; i++) {
        struct hash_link *link = table->buckets[i];
        while (link) {
            struct hash_link *next = link->next;
            hash_table_insert(&grown, link);
            link = next;
        }
    }
    free(table->buckets);
    table->buckets = grown.buckets;
    table->size = grown.size;
    return 1;
}

int hash_table_put(struct hash_table *table, struct hash_link *link)
{
    /* A table that cannot grow still works, with longer chains. */
    if (table->count >= table->size && !hash_table_grow(table) && !table->size)
        return 0;
    hash_table_insert(table, link);
    atomic_store_explicit(&table->count, table->count + 1, memory_order_relaxed);
    return 1;
}

void hash_table_remove(struct hash_table *table, struct hash_link *link)
{
    *link->place = link->next;
    if (link->next)
        link->next->place = link->place;
    atomic_store_explicit(&table->count, table->count - 1, memory_order_relaxed);
}

void hash_table_clear(struct hash_table *table, void (*drop)(struct hash_link *link))
{
    size_t i;

    for (i = 0; i < table->size; i++) {
        struct hash_link *link = table->buckets[i];
        while (link) {
            struct hash_link *next = link->next;
            if (drop)
                drop(link);
            link = next;
        }
    }
    free(table->buckets);
    table->buckets = NULL;
    table->size = 0;
    atomic_store_explicit(&table->count, 0, memory_order_relaxed);
}

/* --- hashing ----------------------------------------------------------------------------------------------------- */

/* Written once, before any thread of ours runs. */
static uint64_t hash_table_key[2];

/*
 * Draws the key. If the kernel has no getrandom(), or no entropy yet, or a filter of system calls forbids it, uses the
 * 16 octets that the kernel gave this process at its start (AT_RANDOM).
 */
__attribute__((constructor)) static void hash_table_draw_key(void)
{
    const void *at_start = (const void *)getauxval(AT_RANDOM);

    /* glibc 2.17 has no getrandom() */
    if (syscall(SYS_getrandom, hash_table_key, sizeof hash_table_key, GRND_NONBLOCK) != (long)sizeof hash_table_key &&
        at_start)
        memcpy(hash_table_key, at_start, sizeof hash_table_key);
}

static inline uint64_t hash_table_rotate(uint64_t word, int bits) { return word << bits | word >> (64 - bits); }

static inline void hash_table_sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = hash_table_rotate(v[1], 13) ^ v[0];
    v[3] = hash_table_rotate(v[3], 16) ^ v[2];
    v[0] = hash_table_rotate(v[0], 32) + v[3];
    v[2] += v[1];
    v[1] = hash_table_rotate(v[1], 17) ^ v[2];
    v[3] = hash_table_rotate(v[3], 21) ^ v[0];
    v[2] = hash_table_rotate(v[2], 32);
}

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size)
{
    const uint64_t key[2] = { hash_table_key[0] ^ seed, hash_table_key[1] };
    uint64_t word, v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };
    const unsigned char *octet = bytes;
    size_t left = size;
    int i;

    for (; left >= sizeof word; left -= sizeof word, octet += sizeof word) {
        memcpy(&word, octet, sizeof word);
        v[3] ^= word;
        hash_table_sip_round(v);
        v[0] ^= word;
    }
    word = 0;
    if (left) /* bytes may be NULL if the size is 0 */
        memcpy(&word, octet, left);
    word ^= (uint64_t)size << 56;
    v[3] ^= word;
    hash_table_sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (i = 0; i < 3; i++)
        hash_table_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
