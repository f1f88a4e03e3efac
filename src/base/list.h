/*
 * base/list.h - an intrusive doubly linked list with a head that points at itself when empty.
 */
#ifndef LT_BASE_LIST_H
#define LT_BASE_LIST_H

#include "base/rc.h"

struct lt_list {
    struct lt_list *prev;
    struct lt_list *next;
};

static inline void lt_list_init(struct lt_list *head)
{
    head->prev = head->next = head;
}

static inline bool lt_list_is_empty(const struct lt_list *head)
{
    return head->next == head;
}

static inline bool lt_list_is_linked(const struct lt_list *link)
{
    return link->next != NULL && link->next != link;
}

static inline void lt_list_push_back(struct lt_list *head, struct lt_list *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void lt_list_push_front(struct lt_list *head, struct lt_list *link)
{
    lt_list_push_back(head->next, link);
}

/* The link points at itself afterwards, so that removing it twice does nothing. */
static inline void lt_list_remove(struct lt_list *link)
{
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    lt_list_init(link);
}

#define lt_list_first(head, type, member) LT_CONTAINER_OF((head)->next, type, member)

/* `next` is a second struct lt_list *, so that the body may remove `it`. */
#define lt_list_each(head, it, nxt) \
    for ((it) = (head)->next, (nxt) = (it)->next; (it) != (head); (it) = (nxt), (nxt) = (it)->next)

#endif
