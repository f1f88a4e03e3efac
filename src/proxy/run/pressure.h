/*
 * proxy/run/pressure.h - how much memory the process has, and what is done about it, in this order
 * as it comes nearer to its ceiling:
 *
 *   from  what                    who notices
 *   70 %  spare memory goes back  nobody
 *   75 %  no keep-alive           clients connect anew
 *   80 %  no new requests         they are answered 503, "overload"
 *   85 %  the heaviest go         streams and connections that hold most
 *   90 %  no new connections      they are closed at once
 *
 * An overload_manager in a bootstrap puts other numbers to the same actions. What is measured is
 * the resident set: by a worker whenever it has read so and so many bytes, by the main thread ten
 * times a second. What workers do: relieve.c.
 * Shared by all threads: actions are one word that is read without a lock.
 */
#ifndef LT_PROXY_RUN_PRESSURE_H
#define LT_PROXY_RUN_PRESSURE_H

#include <stdatomic.h>

#include "base/env.h"
#include "base/err.h"

typedef enum {
    PX_ACT_SHRINK,
    PX_ACT_NO_KEEPALIVE,
    PX_ACT_REFUSE_REQUESTS,
    PX_ACT_SHED,
    PX_ACT_REJECT_CONNECTIONS,
    PX_ACT_PAUSE_CONNECTIONS, /* they wait in the listening socket; only if a bootstrap says so */
    PX_ACTS
} px_act;

struct px_pressure_conf {
    uint64_t limit_bytes;       /* the ceiling; 0: none */
    uint64_t at_bytes[PX_ACTS]; /* when each begins; UINT64_MAX: never */
    uint64_t connections_max;   /* downstream, of all workers; 0: no limit */
};

struct px_pressure {
    struct px_pressure_conf conf;
    int statm_fd; /* -1: nothing is measured */
    uint64_t page_bytes;
    _Atomic uint64_t used_bytes;
    _Atomic uint32_t acts; /* a bit for each px_act */
};

/* Nothing is done ever. */
void px_pressure_conf_init(struct px_pressure_conf *conf);
/* A ceiling of so many bytes; what the conf had stays where it begins earlier. */
void px_pressure_conf_limit(struct px_pressure_conf *conf, uint64_t limit_bytes);
bool px_pressure_conf_is_on(const struct px_pressure_conf *conf);
/* What is to be done with so much in use: a bit for each action. */
uint32_t px_pressure_acts(const struct px_pressure_conf *conf, uint64_t used_bytes);
/* "64Mi", "64M", "67108864": a quantity of Kubernetes. */
LT_MUST lt_rc px_pressure_parse(lt_str text, uint64_t *ret_bytes);
/*
 * The limit of the control group that we are in, version 2 or 1, the least on the way up; 0: none.
 * root: "" but in tests.
 */
uint64_t px_pressure_cgroup_limit(const char *root);

void px_pressure_init(struct px_pressure *pressure, const struct px_pressure_conf *conf);
void px_pressure_fini(struct px_pressure *pressure);
/* Any thread. The actions that are on. */
uint32_t px_pressure_measure(struct px_pressure *pressure);
static inline bool px_pressure_has(const struct px_pressure *pressure, px_act act)
{
    return (atomic_load_explicit(&pressure->acts, memory_order_relaxed) >> act & 1) != 0;
}
/* Of `acts`, for counters. */
const char *px_act_name(px_act act);

#endif
