/*
 * proxy/http/pace.h - a response's body, no faster than so many bytes a second: pieces go out in
 * parts, one each tick.
 */
#ifndef LT_PROXY_HTTP_PACE_H
#define LT_PROXY_HTTP_PACE_H

#include "net/loop.h"

struct px_request;
struct px_pace;

/* From now on; once a request. */
void px_pace_start(struct px_request *request, uint64_t bytes_per_second);
/*
 * Before the piece in hand goes out: makes it as long as is allowed now. False: nothing may go, the
 * request runs again at the next tick.
 */
bool px_pace_cut(struct px_request *request);
/* Behind what went out: true when there is more of the same piece. */
bool px_pace_next(struct px_request *request);
void px_pace_end(struct px_request *request);

#endif
