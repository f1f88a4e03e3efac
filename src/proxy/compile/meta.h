/*
 * proxy/compile/meta.h - private to conf_*.c: matchers of metadata, compiled.
 */
#ifndef LT_PROXY_COMPILE_META_H
#define LT_PROXY_COMPILE_META_H

#include "proxy/compile/build.h"
#include "proxy/conf/meta.h"

/* LT_E_UNSUPPORTED: a kind of match that we don't have. */
LT_MUST lt_rc px_make_meta_match(struct px_build *build, const Xds__MetadataMatcher *in,
                                 struct px_meta_match *match);

#endif
