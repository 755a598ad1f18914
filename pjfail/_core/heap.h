/*
 * heap.h: a heap of due times. The caller locks; entries belong to the caller, and each knows its place.
 */
#pragma once

#include <stddef.h>

struct heap_entry {
    double due;   /* CLOCK_MONOTONIC seconds; INFINITY: in the heap, behind all entries with a time */
    size_t place; /* from 1 on; 0: in no heap */
};

/*
 * Each entry has four children, and the times stand beside the pointers, so that few cache lines are read even with
 * many entries.
 */
struct heap {
    struct heap_slot {
        double due;
        struct heap_entry *entry;
    } *slots;
    size_t count, room;
};

/* Puts the entry in, or moves it, so that it is due then. Returns 0 if there is no memory; a move needs none. */
int heap_put(struct heap *heap, struct heap_entry *entry, double due);

/* Takes the entry out, if it is in the heap. */
void heap_remove(struct heap *heap, struct heap_entry *entry);

/* Returns the entry that is due first; NULL: the heap is empty. */
struct heap_entry *heap_first(const struct heap *heap);

/* Frees the heap's own memory. It must be empty. */
void heap_free(struct heap *heap);
