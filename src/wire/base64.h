/*
 * wire/base64.h - base64 (RFC 4648), for bytes in JSON, Kubernetes Secrets, and the JOSE variants.
 */
#ifndef LT_WIRE_BASE64_H
#define LT_WIRE_BASE64_H

#include "base/arena.h"

/* Standard alphabet, padded. */
lt_str lt_base64_encode(struct lt_arena *arena, lt_str bytes);

/* Both alphabets, padding may be missing, nothing else inside. LT_E_BAD; LT_E_LIMIT when the arena
 * is full. */
LT_MUST lt_rc lt_base64_decode(struct lt_arena *arena, lt_str text, lt_str *ret_bytes);

#endif
