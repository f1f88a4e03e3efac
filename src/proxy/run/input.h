/*
 * proxy/run/input.h - private to the run time: what was read from a connection, in a block from the
 * worker's free list, read in place. Code: worker.c.
 */
#ifndef LT_PROXY_RUN_INPUT_H
#define LT_PROXY_RUN_INPUT_H

#include "base/str.h"
#include "net/transport.h"

struct px_worker;

enum { PX_BLOCK_BYTES = 16 * 1024 };

/*
 * [0, floor) is kept: a head whose slices are in use. [floor, pos) is done with, [pos, end) is
 * unread. No memory is held while there is nothing to keep and nothing unread.
 */
struct px_input {
    char *data; /* owned; NULL: none */
    uint32_t cap, floor, pos, end;
    bool
        end_is_near; /* epoll told of the peer's end: no edge will come again, so read until then */
};

static inline lt_str px_input_unread(const struct px_input *in)
{
    return lt_str_make(in->data + in->pos, in->end - in->pos);
}

/*
 * One read into the block. LT_OK, LT_AGAIN, LT_EOF, LT_E_CLOSED, LT_E_TLS as the transport says;
 * LT_E_LIMIT when the block is full of unread bytes. *can_read is cleared when the socket is known
 * to be empty.
 */
LT_MUST lt_rc px_input_read(struct px_worker *worker, struct px_input *in,
                            struct lt_transport *transport, bool *can_read);
/*
 * Makes the block larger, up to cap bytes; LT_E_LIMIT when it is as large already. Slices into it
 * are dead afterwards.
 */
LT_MUST lt_rc px_input_grow(struct px_worker *worker, struct px_input *in, uint32_t cap);
/*
 * When the kept head is longer than floor_max, what is unread moves to a fresh block. Returns the
 * old one, which holds the head still: the caller frees it with free(). NULL: nothing moved.
 */
char *px_input_detach(struct px_worker *worker, struct px_input *in, uint32_t floor_max);
/* What was unread stays, everything before it goes. Gives the block back when nothing is left. */
void px_input_reset(struct px_worker *worker, struct px_input *in);
void px_input_free(struct px_worker *worker, struct px_input *in);

#endif
