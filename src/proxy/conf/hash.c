/*
 * proxy/conf/hash.c - MurmurHash2 for 64 bits, as the public domain description has it.
 */
#include "proxy/conf/hash.h"

static const uint64_t factor = 0xc6a4a7935bd1e995ull;

static uint64_t mix(uint64_t value)
{
    return value ^ (value >> 47);
}

/* Bytes in the order of the wire, whatever the machine's. */
static uint64_t load(const unsigned char *p, size_t len)
{
    uint64_t value = 0;
    for (size_t i = len; i > 0; i--)
        value = value << 8 | p[i - 1];
    return value;
}

uint64_t px_murmur2(const void *data, size_t len, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t hash = seed ^ (len * factor);
    for (; len >= 8; len -= 8, p += 8)
        hash = (hash ^ (mix(load(p, 8) * factor) * factor)) * factor;
    if (len > 0)
        hash = (hash ^ load(p, len)) * factor;
    return mix(mix(hash) * factor);
}
