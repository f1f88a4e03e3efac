/*
 * ctl/control.c - both ends of the control socket.
 */
#include "ctl/control.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/proc.h"
#include "net/fd_pass.h"
#include "net/sock.h"
#include "wire/json.h"

enum { CONNS_MAX = 32, CONN_TIMEOUT_S = 30 };

struct conn {
    struct lt_io io;
    struct lt_timer timer;
    struct lt_list link;
    struct ctl_control *control;
    struct lt_buf in;
    struct lt_buf out;
    int out_fd; /* owned; goes with the first byte; -1: none */
    bool has_answer;
};

struct ctl_control {
    struct lt_loop *loop; /* borrowed */
    struct lt_io listener;
    struct lt_list conns;
    size_t count;
    ctl_control_fn *handler;
    void *ctx;
};

static void close_conn(struct conn *conn)
{
    struct ctl_control *control = conn->control;
    lt_loop_io_del(control->loop, &conn->io);
    lt_loop_timer_cancel(control->loop, &conn->timer);
    close(conn->io.fd);
    lt_list_remove(&conn->link);
    lt_buf_fini(&conn->in);
    lt_buf_fini(&conn->out);
    if (conn->out_fd >= 0)
        close(conn->out_fd);
    control->count--;
    free(conn);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    close_conn(LT_CONTAINER_OF(timer, struct conn, timer));
}

static void answer(struct conn *conn)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct lt_doc *request = NULL;
    struct lt_err err = {0};
    conn->has_answer = true;
    if (lt_json_parse(arena, lt_buf_str(&conn->in), NULL, &request, &err) == LT_OK)
        conn->control->handler(request, &conn->out, &conn->out_fd, conn->control->ctx);
    lt_arena_free(&arena);
}

/* LT_OK: all is sent. */
static lt_rc send_out(struct conn *conn)
{
    while (lt_buf_len(&conn->out) > 0) {
        lt_str rest = lt_buf_str(&conn->out);
        if (conn->out_fd >=
            0) { /* one byte carries it, which a stream socket takes whole or not at all */
            LT_TRY(lt_fd_send(conn->io.fd, lt_str_slice(rest, 0, 1), conn->out_fd));
            close(conn->out_fd);
            conn->out_fd = -1;
            lt_buf_consume(&conn->out, 1);
            continue;
        }
        ssize_t put = send(conn->io.fd, rest.ptr, rest.len, MSG_NOSIGNAL);
        if (put < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        lt_buf_consume(&conn->out, (size_t)put);
    }
    return LT_OK;
}

static lt_rc serve(struct conn *conn)
{
    while (!conn->has_answer) {
        char room[4096];
        ssize_t got = recv(conn->io.fd, room, sizeof(room), 0);
        if (got < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        if (got == 0)
            answer(conn); /* the asker has shut its side: the request is whole */
        else
            LT_TRY(lt_buf_append(&conn->in, room, (size_t)got));
    }
    return send_out(conn);
}

static void on_conn(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct conn *conn = LT_CONTAINER_OF(io, struct conn, io);
    if (serve(conn) != LT_AGAIN)
        close_conn(conn);
    else
        lt_loop_io_set(conn->control->loop, io, conn->has_answer ? EPOLLOUT : EPOLLIN);
}

/*
 * Inside its user namespace the node is uid 0, and so is the caller: they are the same user
 * outside.
 */
static bool is_ours(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}

static void on_connections(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_control *control = LT_CONTAINER_OF(io, struct ctl_control, listener);
    int fd;
    while (lt_sock_accept(io->fd, &fd, NULL) == LT_OK) {
        if (control->count == CONNS_MAX || !is_ours(fd)) {
            close(fd);
            continue;
        }
        struct conn *conn = lt_new(struct conn);
        conn->control = control;
        conn->out_fd = -1;
        lt_io_init(&conn->io, on_conn);
        conn->io.fd = fd;
        lt_timer_init(&conn->timer, on_timeout);
        lt_buf_init(&conn->in, CTL_CONTROL_REQUEST_MAX);
        lt_buf_init(&conn->out, CTL_CONTROL_ANSWER_MAX);
        lt_list_push_back(&control->conns, &conn->link);
        control->count++;
        lt_loop_io_set(control->loop, &conn->io, EPOLLIN);
        lt_loop_timer_set(control->loop, &conn->timer, CONN_TIMEOUT_S * LT_NS_PER_S);
    }
}

lt_rc ctl_control_new(struct lt_loop *loop, const char *path, ctl_control_fn *handler, void *ctx,
                      struct ctl_control **ret_control, struct lt_err *err)
{
    struct lt_addr addr;
    int fd;
    const struct lt_listen_opts opts = {.backlog = CONNS_MAX};
    if (lt_addr_unix(lt_str_of(path), &addr) != LT_OK)
        return lt_err_set(err, LT_E_LIMIT, "%s: too long for a socket's path", path);
    LT_TRY(lt_sock_listen(&addr, &opts, &fd, err));
    struct ctl_control *control = lt_new(struct ctl_control);
    *control = (struct ctl_control){.loop = loop, .handler = handler, .ctx = ctx};
    lt_io_init(&control->listener, on_connections);
    control->listener.fd = fd;
    lt_list_init(&control->conns);
    lt_loop_io_set(loop, &control->listener, EPOLLIN);
    *ret_control = control;
    return LT_OK;
}

void ctl_control_free(struct ctl_control **control)
{
    struct ctl_control *c = *control;
    if (c == NULL)
        return;
    for (struct lt_list *it = c->conns.next, *next; it != &c->conns; it = next) {
        next = it->next;
        struct conn *conn = LT_CONTAINER_OF(it, struct conn, link);
        (void)send_out(conn); /* `down` waits for its answer */
        close_conn(conn);
    }
    lt_loop_io_del(c->loop, &c->listener);
    close(c->listener.fd);
    free(c);
    *control = NULL;
}

/* --- asking --- */

static lt_rc connect_to(const struct ctl_state *state, int *ret_fd, struct lt_err *err)
{
    char path[PATH_MAX];
    struct lt_addr addr;
    if (lt_addr_unix(lt_str_of(ctl_state_path(state, "ctl.sock", path)), &addr) != LT_OK)
        return lt_err_set(err, LT_E_LIMIT, "%s: too long for a socket's path", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &addr.sa, addr.len) < 0) {
        lt_rc rc = lt_err_errno(err, "the mesh of %s does not answer", state->dir);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    *ret_fd = fd;
    return LT_OK;
}

static lt_rc exchange(int sock, lt_str request, struct lt_buf *out, int *ret_fd, struct lt_err *err)
{
    char room[16384];
    lt_rc rc;
    if (lt_fd_send(sock, request, -1) != LT_OK || shutdown(sock, SHUT_WR) < 0)
        return lt_err_errno(err, "asking the mesh");
    do {
        size_t len = 0;
        int fd = -1;
        rc = lt_fd_receive(sock, room, sizeof(room), &len, &fd);
        if (fd >= 0 && *ret_fd < 0)
            *ret_fd = fd;
        else if (fd >= 0)
            close(fd);
        if (rc == LT_OK)
            rc = lt_buf_append(out, room, len);
    } while (rc == LT_OK);
    return rc == LT_EOF ? LT_OK : lt_err_set(err, rc, "the mesh broke off its answer");
}

lt_rc ctl_control_ask(const struct ctl_state *state, lt_str request, struct lt_arena *arena,
                      const struct lt_doc **ret_answer, int *ret_fd, struct lt_err *err)
{
    struct lt_buf out;
    int sock, fd = -1;
    LT_TRY(connect_to(state, &sock, err));
    lt_buf_init(&out, CTL_CONTROL_ANSWER_MAX);
    lt_rc rc = exchange(sock, request, &out, &fd, err);
    if (rc == LT_OK)
        rc = lt_json_parse(arena, lt_buf_str(&out), NULL, ret_answer, err);
    lt_buf_fini(&out);
    close(sock);
    lt_str problem = rc == LT_OK ? lt_doc_string(lt_doc_findz(*ret_answer, "error")) : LT_STR_NULL;
    if (problem.ptr != NULL)
        rc = lt_err_set(err, LT_E_BAD, "%.*s", LT_STR_ARG(problem));
    if (fd >= 0 && (rc != LT_OK || ret_fd == NULL)) {
        close(fd);
        fd = -1;
    }
    if (ret_fd != NULL)
        *ret_fd = fd;
    return rc;
}
