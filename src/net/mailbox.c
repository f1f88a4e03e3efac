/*
 * net/mailbox.c - a lock-free stack of letters, turned round by the reader, and an eventfd to wake
 * it.
 */
#include "net/mailbox.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct lt_mailbox {
    _Atomic(struct lt_letter *) newest;
    struct lt_loop *loop; /* borrowed */
    void *receiver;       /* borrowed */
    struct lt_io io;
};

static void open_all(struct lt_mailbox *mailbox)
{
    struct lt_letter *newest = atomic_exchange_explicit(&mailbox->newest, NULL,
                                                        memory_order_acquire);
    struct lt_letter *oldest = NULL;
    while (newest != NULL) {
        struct lt_letter *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct lt_letter *next = oldest->next;
        oldest->open(oldest, mailbox->receiver);
        oldest = next;
    }
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    uint64_t count;
    ssize_t ignored = read(io->fd, &count, sizeof(count));
    (void)ignored;
    open_all(LT_CONTAINER_OF(io, struct lt_mailbox, io));
}

struct lt_mailbox *lt_mailbox_new(struct lt_loop *loop, void *receiver)
{
    struct lt_mailbox *mailbox = lt_new(struct lt_mailbox);
    mailbox->loop = loop;
    mailbox->receiver = receiver;
    lt_io_init(&mailbox->io, on_ready);
    mailbox->io.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    LT_ASSERT(mailbox->io.fd >= 0);
    lt_loop_io_set(loop, &mailbox->io, EPOLLIN);
    return mailbox;
}

void lt_mailbox_free(struct lt_mailbox **mailbox)
{
    if (*mailbox == NULL)
        return;
    open_all(*mailbox);
    lt_loop_io_del((*mailbox)->loop, &(*mailbox)->io);
    close((*mailbox)->io.fd);
    free(*mailbox);
    *mailbox = NULL;
}

void lt_mailbox_post(struct lt_mailbox *mailbox, struct lt_letter *letter)
{
    struct lt_letter *newest = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);
    do {
        letter->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &newest, letter,
                                                    memory_order_release, memory_order_relaxed));
    if (newest == NULL) { /* it was empty: somebody must wake the reader, and that is us */
        uint64_t one = 1;
        ssize_t ignored = write(mailbox->io.fd, &one, sizeof(one));
        (void)ignored;
    }
}
