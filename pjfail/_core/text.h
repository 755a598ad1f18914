/*
 * text.h: text of pjlib's, which has a length, as text of C's, which has a zero at its end.
 */
#pragma once

#include <pj/types.h>
#include <string.h>

/* Copies as much of from as there is room for, and a zero. Any thread. */
static inline void copy_text(char *text, size_t room, const pj_str_t *from)
{
    size_t length = from->slen < 0 ? 0 : (size_t)from->slen < room ? (size_t)from->slen : room - 1;

    if (length) /* without one ptr may be NULL */
        memcpy(text, from->ptr, length);
    text[length] = '\0';
}
