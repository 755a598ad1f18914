/*
 * table.h: an intrusive hash table with chains that grows. The caller locks; entries belong to the caller.
 */
#ifndef PJFAIL_TABLE_H
#define PJFAIL_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct link {
    struct link *next;
    uint64_t hash;
};

struct table {
    struct link **buckets;
    size_t size;                /* a power of two, or 0 before the first entry */
    size_t count;
};

/* The first entry with this hash, and the next one after it: the caller compares keys. */
struct link *table_first(const struct table *table, uint64_t hash);
struct link *table_next(const struct link *link);

/* Puts link, whose hash is set, into the table. 0 when there is no memory. */
int table_put(struct table *table, struct link *link);
void table_remove(struct table *table, struct link *link);

/* Empties the table and frees its buckets; drop is given each entry. */
void table_clear(struct table *table, void (*drop)(struct link *link));

/*
 * SipHash-1-3 under a key that is drawn when the core is loaded: strangers choose Call-IDs, branches and host names, and must not be
 * able to choose which of them share a bucket. seed: HASH_SEED, or the hash of what comes before. Any thread.
 */
#define HASH_SEED UINT64_C(0)
uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size);

#define entry_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

#endif
