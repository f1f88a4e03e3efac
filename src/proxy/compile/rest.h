/*
 * proxy/compile/rest.h - private to conf_*.c: fields that are accepted and do nothing.
 */
#ifndef LT_PROXY_COMPILE_REST_H
#define LT_PROXY_COMPILE_REST_H

#include "proxy/compile/build.h"

/* Lists each field of the message that says something and is not among these (NULL ends them). */
void px_list_rest(struct px_build *build, const void *message, const char *const *known);

#endif
