/*
 * proxy/run/pump.c - bytes from one transport to another, unread by us: raw TCP and tunnels.
 * Between two plain sockets a direction that carries much goes through a pipe in the kernel
 * (splice): nothing is copied, and no block is held. What is short or goes to and fro is copied,
 * which costs less than a pipe's two calls.
 * Start at: px_pump().
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "proxy/run/run.h"

enum {
    TURNS_MAX = 64,
    TURN_BYTES_MAX = 1 << 20,   /* then others have their turn */
    SPLICE_FROM = 128 << 10,    /* a direction that carried so much goes on by splice */
    SPLICE_AT_ONCE = 512 << 10, /* who does not read holds so much of the kernel's memory */
    PIPE_BYTES = 1 << 20,       /* it is places that are few: one for each piece of a packet */
    PIPES_MAX = 32,             /* in use at a time, of one worker */
};

static lt_rc write_out(const struct px_side *side)
{
    while (side->in->pos < side->in->end) {
        lt_str unread = px_input_unread(side->in);
        struct iovec iov = {(void *)unread.ptr, unread.len};
        size_t put = 0;
        if (!*side->can_write)
            return LT_AGAIN;
        lt_rc rc = lt_transport_writev(side->to, &iov, 1, &put);
        if (rc == LT_AGAIN)
            *side->can_write = false;
        if (rc != LT_OK)
            return rc;
        side->in->pos += (uint32_t)put;
        *side->count += put;
    }
    return LT_OK;
}

/* What is read is out; the end is passed on. LT_EOF: this direction is done. */
static lt_rc pass_end(const struct px_side *side)
{
    if (!*side->end_sent && lt_transport_shutdown_write(side->to) == LT_AGAIN)
        return LT_AGAIN;
    *side->end_sent = true;
    return LT_EOF;
}

/* --- through a pipe --- */

void px_pipe_close(struct px_worker *worker, struct px_pipe *pipe)
{
    if (pipe->is_open) {
        close(pipe->fds[0]);
        close(pipe->fds[1]);
        worker->pipes_open--;
    }
    pipe->is_open = false;
    pipe->held = 0;
}

/* Spare ones are kept: making one costs three calls. */
static bool open_pipe(struct px_worker *worker, struct px_pipe *pipe)
{
    if (worker->pipe_count > 0) {
        *pipe = worker->pipes[--worker->pipe_count];
        pipe->is_bulk = true;
        return true;
    }
    if (worker->pipes_open >= PIPES_MAX || pipe2(pipe->fds, O_NONBLOCK | O_CLOEXEC) != 0)
        return false;
    worker->pipes_open++;
    (void)fcntl(pipe->fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* without it there is less room */
    pipe->is_open = true;
    return true;
}

/* Empty, it is anybody's. */
static void give_back(struct px_worker *worker, struct px_pipe *pipe)
{
    LT_ASSERT(pipe->held == 0);
    if (!pipe->is_open)
        return;
    if (worker->pipe_count < LT_ARRAY_LEN(worker->pipes)) {
        worker->pipes[worker->pipe_count++] = *pipe;
        pipe->is_open = false;
    } else {
        px_pipe_close(worker, pipe);
    }
}

static lt_rc errno_rc(void)
{
    return errno == EAGAIN || errno == EINTR ? LT_AGAIN : LT_E_CLOSED;
}

static lt_rc fill_pipe(const struct px_side *side)
{
    struct px_pipe *pipe = side->pipe;
    if (!*side->can_read)
        return LT_AGAIN;
    ssize_t got = splice(side->from->fd, NULL, pipe->fds[1], NULL, SPLICE_AT_ONCE,
                         SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got > 0) {
        pipe->held += (size_t)got;
        pipe->is_bulk = got >= PX_BLOCK_BYTES;
        return LT_OK;
    }
    if (got == 0)
        return LT_EOF;
    lt_rc rc = errno_rc();
    if (rc == LT_AGAIN)
        *side->can_read = false;
    return rc;
}

static lt_rc drain_pipe(const struct px_side *side)
{
    struct px_pipe *pipe = side->pipe;
    while (pipe->held > 0) {
        if (!*side->can_write)
            return LT_AGAIN;
        ssize_t put = splice(pipe->fds[0], NULL, side->to->fd, NULL, pipe->held,
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (put <= 0) {
            lt_rc rc = put < 0 ? errno_rc() : LT_E_CLOSED;
            if (rc == LT_AGAIN)
                *side->can_write = false;
            return rc;
        }
        pipe->held -= (size_t)put;
        *side->count += (size_t)put;
    }
    return LT_OK;
}

/* LT_OK: this turn is over, and there may be more. */
static lt_rc pump_pipe(const struct px_side *side)
{
    uint64_t end = *side->count + TURN_BYTES_MAX;
    while (*side->count < end) {
        lt_rc rc = drain_pipe(side);
        if (rc != LT_OK)
            return rc;
        if (*side->ended)
            return pass_end(side);
        rc = fill_pipe(side);
        if (rc == LT_EOF)
            *side->ended = true;
        else if (rc != LT_OK)
            return rc;
    }
    return LT_OK;
}

static bool wants_pipe(struct px_worker *worker, const struct px_side *side)
{
    struct px_pipe *pipe = side->pipe;
    if (pipe->held > 0)
        return true;
    return pipe->is_bulk && *side->count >= SPLICE_FROM && side->from->tls == NULL &&
           side->to->tls == NULL && (pipe->is_open || open_pipe(worker, pipe));
}

/* --- both ways --- */

static lt_rc pump_through(struct px_worker *worker, const struct px_side *side)
{
    px_input_free(worker, side->in);
    lt_rc rc = pump_pipe(side);
    if (side->pipe->held == 0)
        give_back(worker, side->pipe);
    return rc;
}

static lt_rc read_block(struct px_worker *worker, const struct px_side *side)
{
    if (!*side->can_read)
        return LT_AGAIN;
    lt_rc rc = px_input_read(worker, side->in, side->from, side->can_read);
    side->pipe->is_bulk = rc == LT_OK && side->in->end - side->in->pos >= PX_BLOCK_BYTES;
    return rc;
}

lt_rc px_pump(struct px_worker *worker, const struct px_side *side)
{
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        lt_rc rc = write_out(side);
        if (rc != LT_OK)
            return rc;
        if (*side->ended && side->pipe->held == 0)
            return pass_end(side);
        if (wants_pipe(worker, side))
            return pump_through(worker, side);
        rc = read_block(worker, side);
        if (rc == LT_AGAIN) {
            if (side->in->pos == side->in->end)
                px_input_free(worker, side->in); /* an idle connection holds no block */
            return LT_AGAIN;
        }
        if (rc == LT_EOF)
            *side->ended = true;
        else if (rc != LT_OK)
            return rc;
    }
    return LT_OK;
}
