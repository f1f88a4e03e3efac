/*
 * proxy/conf/hash.h - hashes that other proxies must agree on. xxHash64 is lt_hash64() with seed 0.
 */
#ifndef LT_PROXY_CONF_HASH_H
#define LT_PROXY_CONF_HASH_H

#include "base/str.h"

/* As the C++ library's strings are hashed, which Envoy took over. */
#define PX_MURMUR_SEED 0xc70f6907ull

/* MurmurHash2, 64 bits (MurmurHash64A). */
uint64_t px_murmur2(const void *data, size_t len, uint64_t seed);

#endif
