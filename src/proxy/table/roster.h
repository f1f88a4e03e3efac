/*
 * proxy/table/roster.h - who is in a cluster now, as the main thread knows it and tells the
 * workers: the endpoints, and of each what all workers share. Immutable but for the atomics in
 * there (shared.h).
 * Main thread only; a snapshot counts the rosters that it carries. Made by members.c.
 */
#ifndef LT_PROXY_TABLE_ROSTER_H
#define LT_PROXY_TABLE_ROSTER_H

#include "proxy/lb/shared.h"

struct px_roster {
    uint32_t refs;
    struct px_cluster_state *state;         /* counted */
    const struct px_endpoints_conf *source; /* that it was made of; counted; NULL: none */
    struct px_endpoints_conf *endpoints;    /* counted; NULL: the source's */
    struct px_host_state **host_states;     /* counted each; NULL: none has any */
    uint32_t host_count;
};

/* One reference; the state's is taken over. */
struct px_roster *px_roster_new(struct px_cluster_state *state,
                                const struct px_endpoints_conf *source);
/* What workers see. */
const struct px_endpoints_conf *px_roster_endpoints(const struct px_roster *roster);
struct px_roster *px_roster_ref(struct px_roster *roster);
void px_roster_unref(struct px_roster **roster);

struct px_cluster_state *px_cluster_state_new(lt_str name);
struct px_cluster_state *px_cluster_state_ref(struct px_cluster_state *state);
/* True when that was the last one. */
bool px_cluster_state_unref(struct px_cluster_state **state);
struct px_host_state *px_host_state_new(void);
struct px_host_state *px_host_state_ref(struct px_host_state *state);
void px_host_state_unref(struct px_host_state **state);

/* --- endpoints that no control plane has sent --- */

/* An empty assignment of its own arena, one reference; its endpoints are filled by the caller. */
struct px_endpoints_conf *px_endpoints_new(lt_str name, const struct px_endpoints_conf *like);
/* A copy of it, with all that it points to, in the arena. */
struct px_endpoint_conf px_endpoint_copy(struct lt_arena *arena,
                                         const struct px_endpoint_conf *endpoint);

#endif
