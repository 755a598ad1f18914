/*
 * hash_table.h: an intrusive hash table with chains that grows. The caller locks; entries belong to the caller.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct hash_link {
    struct hash_link *next, **place; /* place: the pointer to this link */
    uint64_t hash;
};

struct hash_table {
    struct hash_link **buckets;
    size_t size; /* a power of two, or 0 before the first entry */
    atomic_size_t count;
};

/* Returns whether it has no entry. Without the caller's lock, too: a thread sees what it, or a thread before it, has put. */
static inline int hash_table_is_empty(const struct hash_table *table)
{
    return !atomic_load_explicit(&table->count, memory_order_relaxed);
}

/* Returns the first entry with this hash, NULL: none. The caller compares keys. */
struct hash_link *hash_table_first(const struct hash_table *table, uint64_t hash);

/* Returns the next entry of the same hash, NULL: none. */
struct hash_link *hash_table_next(const struct hash_link *link);

/* Puts link, whose hash is set, into the table. Returns 0 if there is no memory. */
int hash_table_put(struct hash_table *table, struct hash_link *link);
void hash_table_remove(struct hash_table *table, struct hash_link *link);

/* Empties the table and frees its buckets; calls drop, if it is not NULL, for each entry. */
void hash_table_clear(struct hash_table *table, void (*drop)(struct hash_link *link));

/*
 * SipHash-1-3 with a key drawn when the core is loaded: strangers choose Call-IDs, branches and host names, and must
 * not be able to make them share a bucket. seed: HASH_SEED, or what comes before: its hash, or its octets. Any thread.
 */
#define HASH_SEED UINT64_C(0)
uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size);

/* Returns a hash of an address in memory, which no stranger chooses. No two addresses have the same. Any thread. */
static inline uint64_t hash_pointer(const void *pointer)
{
    return __builtin_bswap64((uintptr_t)pointer * UINT64_C(0x9e3779b97f4a7c15));
}

#define entry_of(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))
