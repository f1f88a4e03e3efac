/*
 * proxy/conf/buffer.h - configuration of envoy.filters.http.buffer.
 */
#ifndef LT_PROXY_CONF_BUFFER_H
#define LT_PROXY_CONF_BUFFER_H

#include "base/rc.h"

struct px_buffer_conf {
    uint32_t bytes_max; /* 0: off */
};

#endif
