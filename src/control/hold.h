/*
 * control/hold.h - no order of apply, edit or delete fails a request: what a route needs and does
 * not have (yet, or any more) is held.
 *   - - An edit makes a VirtualService name a subset or host that is not there: its last good spec
 *     stays in force.
 *   - - A DestinationRule or Service goes while a VirtualService names it: the subset's definition
 *     (or the Service) stays in force.
 *   - - A VirtualService that was never good names what is not there: those rules alone are left
 *     out. Each for at most the hold time; then the object applies as written, and the proxy
 *     answers 503 NC as with Istio (hold time 0). A pure step: what was good, what is held, the
 *     objects now, the time now; out comes the same for next time. The state is an explicit input
 *     of translation (struct lt_held of model/model.h). Source: design decision 3.   Start at:
 *     cp_hold_step().
 */
#ifndef CP_CONTROL_HOLD_H
#define CP_CONTROL_HOLD_H

#include "model/model.h"

enum { CP_HOLD_DEFAULT_S = 60 };

/* What was decided about one VirtualService. */
struct cp_hold_entry {
    const struct lt_object *routes;  /* counted; the present object that dangles */
    const struct lt_object *instead; /* counted; its last good spec, or NULL: rules are left out */
    int64_t since_ns;                /* wall clock: when it began to dangle */
    int64_t until_ns;                /* wall clock: when it applies as written */
    bool is_over;                    /* it does */
    char reason[256];                /* "there is no subset v2 of reviews.shop.svc.cluster.local" */
};

struct cp_hold;

struct cp_hold *cp_hold_new(void);
void cp_hold_free(struct cp_hold **hold);

struct cp_hold_input {
    const struct lt_object *const *objects; /* in force now, sorted by key */
    size_t count;
    lt_str domain;   /* "cluster.local" */
    int64_t now_ns;  /* wall clock */
    int64_t hold_ns; /* 0: nothing is ever held */
};

/*
 * Takes the state one step on. Afterwards cp_hold_held says what translation must hold, until
 * cp_hold_deadline_ns (INT64_MAX: nothing ends by time) or until the objects change.
 */
void cp_hold_step(struct cp_hold *hold, const struct cp_hold_input *input);

/* Borrowed until the next step. */
const struct lt_held *cp_hold_held(const struct cp_hold *hold);
int64_t cp_hold_deadline_ns(const struct cp_hold *hold);
/* What is held and why, for status and debug pages; borrowed until the next step. */
const struct cp_hold_entry *cp_hold_entries(const struct cp_hold *hold, size_t *ret_count);

#endif
