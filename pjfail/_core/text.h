/*
 * text.h: copies a pj_str_t, which has a length, to a C string.
 */
#pragma once

#include <pj/types.h>
#include <string.h>

/* Copies as much of from as there is room for, and a zero. Any thread. */
static inline void copy_text(char *text, size_t room, const pj_str_t *from)
{
    size_t length = from->slen < 0 ? 0 : (size_t)from->slen < room ? (size_t)from->slen : room - 1;

    if (length) /* ptr may be NULL if the length is 0 */
        memcpy(text, from->ptr, length);
    text[length] = '\0';
}
