#include "table.h"

#include <stdlib.h>

struct link *table_first(const struct table *table, uint64_t hash)
{
    struct link *link;

    if (!table->size)
        return NULL;
    link = table->buckets[hash & (table->size - 1)];
    while (link && link->hash != hash)
        link = link->next;
    return link;
}

struct link *table_next(const struct link *link)
{
    uint64_t hash = link->hash;
    struct link *next = link->next;

    while (next && next->hash != hash)
        next = next->next;
    return next;
}

static int grow(struct table *table)
{
    size_t size = table->size ? table->size * 2 : 64, i;
    struct link **buckets = calloc(size, sizeof *buckets);

    if (!buckets)
        return 0;
    for (i = 0; i < table->size; i++) {
        struct link *link = table->buckets[i];
        while (link) {
            struct link *next = link->next, **bucket = &buckets[link->hash & (size - 1)];
            link->next = *bucket;
            *bucket = link;
            link = next;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->size = size;
    return 1;
}

int table_put(struct table *table, struct link *link)
{
    struct link **bucket;

    /* A table that cannot grow still works, with longer chains. */
    if (table->count >= table->size && !grow(table) && !table->size)
        return 0;
    bucket = &table->buckets[link->hash & (table->size - 1)];
    link->next = *bucket;
    *bucket = link;
    table->count++;
    return 1;
}

void table_remove(struct table *table, struct link *link)
{
    struct link **place = &table->buckets[link->hash & (table->size - 1)];

    while (*place != link)
        place = &(*place)->next;
    *place = link->next;
    table->count--;
}

void table_clear(struct table *table, void (*drop)(struct link *link))
{
    size_t i;

    for (i = 0; i < table->size; i++) {
        struct link *link = table->buckets[i];
        while (link) {
            struct link *next = link->next;
            drop(link);
            link = next;
        }
    }
    free(table->buckets);
    table->buckets = NULL;
    table->size = table->count = 0;
}

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t size)
{
    const unsigned char *octet = bytes, *end = octet + size;

    while (octet < end)
        seed = (seed ^ *octet++) * UINT64_C(1099511628211);
    return seed;
}
