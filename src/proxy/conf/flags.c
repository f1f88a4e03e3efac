/*
 * proxy/conf/flags.c - text of response flags.
 */
#include "proxy/conf/flags.h"

lt_str px_flags_format(uint32_t flags, char out[PX_FLAGS_TEXT_MAX])
{
    static const char *const names[] = {
#define LT_FLAG(id, text, name, help) text,
#include "proxy/conf/flags.def"
#undef LT_FLAG
    };
    if (flags == 0)
        return LT_STR("-");
    size_t len = 0;
    for (unsigned i = 0; i < PX_FLAG_COUNT; i++) {
        size_t part = strlen(names[i]);
        if ((flags & 1u << i) == 0 || len + part + 1 > PX_FLAGS_TEXT_MAX)
            continue;
        if (len > 0)
            out[len++] = ',';
        memcpy(out + len, names[i], part);
        len += part;
    }
    return lt_str_make(out, len);
}
