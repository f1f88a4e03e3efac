/*
 * proxy/health/members_priv.h - private to members*.c.
 */
#ifndef LT_PROXY_HEALTH_MEMBERS_PRIV_H
#define LT_PROXY_HEALTH_MEMBERS_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "proxy/health/check_ask.h"
#include "proxy/health/members.h"
#include "proxy/health/names.h"

/* One cluster that asks for something. */
struct px_care {
    struct px_members *members;
    struct px_cluster_state *state;         /* counted */
    const struct px_cluster_conf *conf;     /* counted; the newest version, perhaps warming */
    struct px_roster *roster;               /* counted; of conf; NULL: to be made */
    const struct px_cluster_conf *old_conf; /* counted; serves while conf warms; NULL */
    struct px_roster *old_roster;           /* counted; of that */
    bool is_stale;                          /* the roster must be made anew */
    struct px_names *names;                 /* owned; NULL: no DNS cluster */
    struct px_outlier outlier;              /* outlier.conf NULL: none */
    struct lt_timer interval;               /* of the outlier detection */
    struct px_check_stats check_stats;
    struct lt_map hosts;    /* name -> struct px_member, owned */
    uint64_t generation;    /* of the roster */
    struct lt_list dirty;   /* in members->dirty */
    struct lt_list changed; /* in members->changed */
};

/* One host of it. */
struct px_member {
    struct px_care *care;
    char *name;                  /* owned; the key in care->hosts */
    struct px_host_state *state; /* counted */
    uint64_t generation;         /* of the roster that had it last */
    uint32_t index;              /* in that roster's endpoints */
    struct px_outlier_host outlier;
    struct px_check check;
    bool is_checked;
    bool is_paused;         /* until px_member_set says how it is checked by the new version */
    struct px_asker *asker; /* owned; NULL: made with the next question */
    struct lt_timer next;   /* question */
    /* what the asker is made of */
    struct lt_addr addr;
    const struct px_tls_conf *tls; /* of care->conf */
    char *authority;               /* owned */
};

struct px_members {
    struct px_members_opts opts;
    struct lt_prng prng;
    struct px_resolvers *resolvers; /* owned */
    struct lt_map cares;            /* name -> struct px_care, owned */
    struct lt_map states;           /* name -> struct px_cluster_state, those that anybody holds */
    struct lt_list dirty;           /* of px_care.dirty: workers are to be told */
    struct lt_list changed;         /* of px_care.changed: the table is to be told */
    struct lt_task tell, change;
};

/* --- members_host.c --- */
struct px_member *px_member_new(struct px_care *care, lt_str name);
void px_member_free(struct px_member *member);
/* Where and how it is checked by care->conf, or that it is not. */
void px_member_set(struct px_member *member, const struct px_endpoint_conf *endpoint);
/* care->conf is another: checks begin anew, as of a host that has served before. */
void px_member_follow(struct px_member *member);
/* The first check has not ended. */
static inline bool px_member_is_pending(const struct px_member *member)
{
    return member->is_checked && !member->check.was_checked;
}
void px_member_on_ejection(void *ctx, struct px_outlier_host *host);

/* --- members.c --- */
/* Workers are told of it at the end of this turn. */
void px_care_mark(struct px_care *care);
/* on_change, at the end of this turn. */
void px_care_changed(struct px_care *care);

#endif
