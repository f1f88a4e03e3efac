/*
 * proxy/conf/flags.h - response flags as a set of bits.
 */
#ifndef LT_PROXY_CONF_FLAGS_H
#define LT_PROXY_CONF_FLAGS_H

#include "base/str.h"

enum px_flag_index {
#define LT_FLAG(id, text, name, help) PX_FLAG_INDEX_##id,
#include "proxy/conf/flags.def"
#undef LT_FLAG
    PX_FLAG_COUNT
};

enum px_flag {
#define LT_FLAG(id, text, name, help) PX_FLAG_##id = 1 << PX_FLAG_INDEX_##id,
#include "proxy/conf/flags.def"
#undef LT_FLAG
};

enum { PX_FLAGS_TEXT_MAX = 128 };

/* "-" for none, else "URX,UF" in the order of the table. The result points into out. */
lt_str px_flags_format(uint32_t flags, char out[PX_FLAGS_TEXT_MAX]);

#endif
