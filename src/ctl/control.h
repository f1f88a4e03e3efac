/*
 * ctl/control.h - how the other commands talk to a running mesh: one request a connection over a
 * Unix socket. A request is a JSON object in one piece; the answer is bytes until the connection
 * ends, and perhaps one descriptor with the first of them. Only the mesh's owner can reach the
 * socket (its directory is 0700); peers are checked all the same.
 */
#ifndef LT_CTL_CONTROL_H
#define LT_CTL_CONTROL_H

#include "base/buf.h"
#include "ctl/state.h"
#include "net/loop.h"
#include "wire/doc.h"

enum { CTL_CONTROL_REQUEST_MAX = 64 * 1024, CTL_CONTROL_ANSWER_MAX = 16 << 20 };

/* --- the node's end --- */

struct ctl_control;

/* Fills answer, and *ret_fd (taken; -1: none). */
typedef void ctl_control_fn(const struct lt_doc *request, struct lt_buf *answer, int *ret_fd,
                            void *ctx);

LT_MUST lt_rc ctl_control_new(struct lt_loop *loop, const char *path, ctl_control_fn *handler,
                              void *ctx, struct ctl_control **ret_control, struct lt_err *err);
void ctl_control_free(struct ctl_control **control);

/* --- the commands' end --- */

/*
 * Asks and waits. The answer is parsed: {"error": "..."} becomes an error. *ret_fd may be NULL;
 * otherwise it is the caller's to close, -1 when none came. The answer lives in arena.
 */
LT_MUST lt_rc ctl_control_ask(const struct ctl_state *state, lt_str request, struct lt_arena *arena,
                              const struct lt_doc **ret_answer, int *ret_fd, struct lt_err *err);

#endif
