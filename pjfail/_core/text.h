/*
 * text.h: copies and hashes a pj_str_t, which has a length. Any thread.
 */
#pragma once

#include "hash_table.h"

#include <pj/types.h>
#include <string.h>

/* Returns its hash_bytes(). */
static inline uint64_t hash_text(uint64_t seed, const pj_str_t *text)
{
    return hash_bytes(seed, text->ptr, (size_t)text->slen);
}

/* Copies as much of from as there is room for, and a zero, to a C string. */
static inline void copy_text(char *text, size_t room, const pj_str_t *from)
{
    size_t length = from->slen < 0 ? 0 : (size_t)from->slen < room ? (size_t)from->slen : room - 1;

    if (length) /* ptr may be NULL if the length is 0 */
        memcpy(text, from->ptr, length);
    text[length] = '\0';
}
