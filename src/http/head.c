/*
 * http/head.c - an empty head.
 */
#include "http/head.h"

void lt_http_head_init(struct lt_http_head *head, struct lt_arena *arena, uint32_t count_max,
                       uint32_t bytes_max)
{
    *head = (struct lt_http_head){0};
    lt_headers_init(&head->headers, arena, count_max, bytes_max);
}
