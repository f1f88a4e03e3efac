/*
 * proxy/compile/mutations.h - private to conf_*.c: header mutations, compiled.
 */
#ifndef LT_PROXY_COMPILE_MUTATIONS_H
#define LT_PROXY_COMPILE_MUTATIONS_H

#include "proxy/compile/build.h"
#include "proxy/conf/mutations.h"
#include "wire/proto/common_mutation_rules.pb-c.h"

LT_MUST lt_rc px_make_mutations(struct px_build *build, const char *field,
                                Xds__HeaderMutation *const *in, size_t count,
                                struct px_mutations *mutations);

#endif
