/*
 * proxy/conf/intern.h - texts that are told by their address: the same text is the same pointer
 * while somebody holds it, so that whoever compares reports compares pointers.
 * A text lives as long as its holders and no longer: what strangers make us hold (a Host, a server
 * name) goes with their requests and connections, and can't use up what others need.
 * Start at: px_text_make().
 */
#ifndef LT_PROXY_CONF_INTERN_H
#define LT_PROXY_CONF_INTERN_H

#include "base/map.h"

struct px_interns {
    struct lt_map texts; /* text -> struct px_text, owned; counted by its holders */
};

void px_interns_init(struct px_interns *interns);
/* Nobody may hold a text any more. */
void px_interns_fini(struct px_interns *interns);

/*
 * NUL-terminated; cut at a NUL of its own. The empty text is "", which need not be counted. The
 * caller holds the result and gives it back with px_text_drop.
 */
const char *px_text_make(struct px_interns *interns, lt_str text);
/* Another holder of a text that came from px_text_make, or of "". */
const char *px_text_take(const char *text);
/* Leaves "" behind. */
void px_text_drop(const char **text);
/* Holds `to` in place of what *text was; takes over the caller's hold of `to`. */
void px_text_set(const char **text, const char *to);

#endif
