/*
 * net/mailbox.h - the one thing threads share: letters from any thread to one loop.
 * A letter is embedded in what is sent; whoever sends it gives it away, whoever opens it owns it.
 */
#ifndef LT_NET_MAILBOX_H
#define LT_NET_MAILBOX_H

#include "net/loop.h"

struct lt_mailbox;
struct lt_letter;
/* Runs on the receiving loop, in the order of posting. */
typedef void lt_letter_fn(struct lt_letter *letter, void *receiver);

struct lt_letter {
    struct lt_letter *next;
    lt_letter_fn *open;
};

/* receiver is handed to every letter's open function. */
struct lt_mailbox *lt_mailbox_new(struct lt_loop *loop, void *receiver);
/* Opens what is still in it, then frees. No thread may post any more. */
void lt_mailbox_free(struct lt_mailbox **mailbox);
/* From any thread. */
void lt_mailbox_post(struct lt_mailbox *mailbox, struct lt_letter *letter);

#endif
