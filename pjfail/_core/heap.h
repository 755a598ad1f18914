/*
 * heap.h: a heap of due times. The caller locks; entries belong to the caller and know their place.
 */
#pragma once

#include <stddef.h>

struct heap_entry {
    double due;   /* CLOCK_MONOTONIC seconds; INFINITY: stays in the heap, behind all that have a time */
    size_t place; /* counted from 1; 0: in no heap */
};

/* Four children each, and the times beside the pointers: few cache lines are read where there are many entries. */
struct heap {
    struct heap_slot {
        double due;
        struct heap_entry *entry;
    } *slots;
    size_t count, room;
};

/* Puts the entry in, or moves it, to stand at due. Returns 0 when there is no memory, which a move never needs. */
int heap_put(struct heap *heap, struct heap_entry *entry, double due);

/* Takes the entry out; does nothing for one that is in no heap. */
void heap_remove(struct heap *heap, struct heap_entry *entry);

/* Returns the entry that is due first, NULL when the heap is empty. */
struct heap_entry *heap_first(const struct heap *heap);

/* Frees the heap's own memory. It must be empty. */
void heap_free(struct heap *heap);
