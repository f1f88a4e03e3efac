/*
 * wire/ads_resource.c - a resource as a server holds it: the bytes of a discovery Resource, made
 * once.
 */
#include "wire/ads_priv.h"

#include <stdio.h>
#include <stdlib.h>

/* envoy.service.discovery.v3.Resource and google.protobuf.Any */
enum { RESOURCE_VERSION = 1, RESOURCE_ANY = 2, RESOURCE_NAME = 3, ANY_TYPE_URL = 1, ANY_VALUE = 2 };
enum { VERSION_TEXT_MAX = 24 };

uint64_t lt_ads_version_hash(lt_str version)
{
    uint64_t hash = version.len == 0 ? 0 : lt_hash64(version.ptr, version.len, 0);
    return hash == 0 && version.len > 0 ? 1 : hash;
}

/* Copies one field to *at and moves it on; returns the copy of the bytes. */
static lt_str put(char **at, uint32_t number, lt_str bytes)
{
    *at += lt_ads_put_head(*at, number, bytes.len);
    lt_str copy = {*at, bytes.len};
    if (bytes.len > 0)
        memcpy(*at, bytes.ptr, bytes.len);
    *at += bytes.len;
    return copy;
}

static void encode(struct lt_ads_resource *resource, lt_str type_url, lt_str name, lt_str version,
                   lt_str value)
{
    size_t any_len = lt_ads_bytes_size(ANY_TYPE_URL, type_url.len) +
                     lt_ads_bytes_size(ANY_VALUE, value.len);
    size_t len = lt_ads_bytes_size(RESOURCE_VERSION, version.len) +
                 lt_ads_bytes_size(RESOURCE_ANY, any_len) +
                 lt_ads_bytes_size(RESOURCE_NAME, name.len);
    char *at = NULL;
    resource->body = lt_bytes_new_room(len, &at);
    const char *end = at + len;
    resource->version = put(&at, RESOURCE_VERSION, version);
    at += lt_ads_put_head(at, RESOURCE_ANY, any_len);
    put(&at, ANY_TYPE_URL, type_url);
    resource->value = put(&at, ANY_VALUE, value);
    put(&at, RESOURCE_NAME, name);
    LT_ASSERT(at == end);
}

struct lt_ads_resource *lt_ads_resource_new(lt_str type_url, lt_str name, lt_str version,
                                            lt_str value)
{
    char text[VERSION_TEXT_MAX];
    if (version.len == 0) {
        uint64_t hash = lt_hash64(value.ptr, value.len, 0);
        int len = snprintf(text, sizeof(text), "%016llx", (unsigned long long)hash);
        version = lt_str_make(text, (size_t)len);
    }
    struct lt_ads_resource *resource = lt_new(struct lt_ads_resource);
    resource->refs = 1;
    resource->name = lt_bytes_new(name);
    resource->version_hash = lt_ads_version_hash(version);
    encode(resource, type_url, name, version, value);
    return resource;
}

struct lt_ads_resource *lt_ads_resource_ref(struct lt_ads_resource *resource)
{
    uint32_t before = __atomic_fetch_add(&resource->refs, 1, __ATOMIC_RELAXED);
    LT_ASSERT(before > 0 && before < UINT32_MAX);
    return resource;
}

void lt_ads_resource_unref(struct lt_ads_resource **resource_ref)
{
    struct lt_ads_resource *resource = *resource_ref;
    if (resource == NULL)
        return;
    *resource_ref = NULL;
    uint32_t before = __atomic_fetch_sub(&resource->refs, 1, __ATOMIC_ACQ_REL);
    LT_ASSERT(before > 0);
    if (before > 1)
        return;
    lt_bytes_unref(&resource->name);
    lt_bytes_unref(&resource->body);
    free(resource);
}

lt_str lt_ads_resource_name(const struct lt_ads_resource *resource)
{
    return lt_bytes_str(resource->name);
}

lt_str lt_ads_resource_version(const struct lt_ads_resource *resource)
{
    return resource->version;
}

lt_str lt_ads_resource_value(const struct lt_ads_resource *resource)
{
    return resource->value;
}
