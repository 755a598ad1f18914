#include "heap.h"

#include <stdlib.h>

enum { HEAP_CHILDREN = 4 };

static void heap_set(struct heap *heap, size_t at, struct heap_slot slot)
{
    heap->slots[at] = slot;
    slot.entry->place = at + 1;
}

/* Moves slot from index at towards the root, to its place. Returns its index. */
static size_t heap_rise(struct heap *heap, size_t at, struct heap_slot slot)
{
    for (; at; at = (at - 1) / HEAP_CHILDREN) {
        struct heap_slot parent = heap->slots[(at - 1) / HEAP_CHILDREN];

        if (parent.due <= slot.due)
            break;
        heap_set(heap, at, parent);
    }
    heap_set(heap, at, slot);
    return at;
}

static void heap_sink(struct heap *heap, size_t at, struct heap_slot slot)
{
    for (;;) {
        size_t first = at * HEAP_CHILDREN + 1, last = first + HEAP_CHILDREN, least = first, each;

        if (first >= heap->count)
            break;
        for (each = first + 1; each < last && each < heap->count; each++)
            if (heap->slots[each].due < heap->slots[least].due)
                least = each;
        if (heap->slots[least].due >= slot.due)
            break;
        heap_set(heap, at, heap->slots[least]);
        at = least;
    }
    heap_set(heap, at, slot);
}

int heap_put(struct heap *heap, struct heap_entry *entry, double due)
{
    struct heap_slot slot = { due, entry };

    if (!entry->place) {
        if (heap->count == heap->room) {
            size_t room = heap->room ? heap->room * 2 : 64;
            struct heap_slot *slots = realloc(heap->slots, room * sizeof *slots);

            if (!slots)
                return 0;
            heap->slots = slots;
            heap->room = room;
        }
        entry->place = ++heap->count;
    }
    entry->due = due;
    heap_sink(heap, heap_rise(heap, entry->place - 1, slot), slot);
    return 1;
}

void heap_remove(struct heap *heap, struct heap_entry *entry)
{
    size_t place = entry->place;
    struct heap_slot last;

    if (!place)
        return;
    entry->place = 0;
    last = heap->slots[--heap->count];
    if (last.entry != entry)
        heap_sink(heap, heap_rise(heap, place - 1, last), last);
}

struct heap_entry *heap_first(const struct heap *heap) { return heap->count ? heap->slots[0].entry : NULL; }

void heap_free(struct heap *heap)
{
    free(heap->slots);
    heap->slots = NULL;
    heap->count = heap->room = 0;
}
