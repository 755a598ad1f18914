#include "heap.h"

#include <stdlib.h>

static void heap_set(struct heap *heap, size_t place, struct heap_entry *entry)
{
    heap->entries[place - 1] = entry;
    entry->place = place;
}

static void heap_rise(struct heap *heap, struct heap_entry *entry)
{
    size_t place = entry->place;

    while (place > 1 && heap->entries[place / 2 - 1]->due > entry->due) {
        heap_set(heap, place, heap->entries[place / 2 - 1]);
        place /= 2;
    }
    heap_set(heap, place, entry);
}

static void heap_sink(struct heap *heap, struct heap_entry *entry)
{
    size_t place = entry->place, child;

    while ((child = 2 * place) <= heap->count) {
        if (child < heap->count && heap->entries[child]->due < heap->entries[child - 1]->due)
            child++;
        if (heap->entries[child - 1]->due >= entry->due)
            break;
        heap_set(heap, place, heap->entries[child - 1]);
        place = child;
    }
    heap_set(heap, place, entry);
}

int heap_put(struct heap *heap, struct heap_entry *entry, double due)
{
    if (!entry->place) {
        if (heap->count == heap->room) {
            size_t room = heap->room ? heap->room * 2 : 64;
            struct heap_entry **entries = realloc(heap->entries, room * sizeof *entries);

            if (!entries)
                return 0;
            heap->entries = entries;
            heap->room = room;
        }
        heap_set(heap, ++heap->count, entry);
    }
    entry->due = due;
    heap_rise(heap, entry);
    heap_sink(heap, entry);
    return 1;
}

void heap_remove(struct heap *heap, struct heap_entry *entry)
{
    size_t place = entry->place;
    struct heap_entry *last;

    if (!place)
        return;
    entry->place = 0;
    last = heap->entries[--heap->count];
    if (last == entry)
        return;
    heap_set(heap, place, last);
    heap_rise(heap, last);
    heap_sink(heap, last);
}

struct heap_entry *heap_first(const struct heap *heap) { return heap->count ? heap->entries[0] : NULL; }

void heap_free(struct heap *heap)
{
    free(heap->entries);
    heap->entries = NULL;
    heap->count = heap->room = 0;
}
