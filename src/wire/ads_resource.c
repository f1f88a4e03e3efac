/*
 * wire/ads_resource.c - a resource as a server holds it: the bytes of a discovery Resource, made
 * once; and the pool in which equal ones are one.
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

static void free_resource(struct lt_bytes *body)
{
    struct lt_ads_resource *resource = LT_CONTAINER_OF(body, struct lt_ads_resource, body);
    lt_bytes_unref(&resource->name);
    free(resource);
}

/* The value last: what stands before it tells the resource from all others. */
static struct lt_ads_resource *encode(lt_str type_url, lt_str name, lt_str version, lt_str value)
{
    size_t any_len = lt_ads_bytes_size(ANY_TYPE_URL, type_url.len) +
                     lt_ads_bytes_size(ANY_VALUE, value.len);
    size_t len = lt_ads_bytes_size(RESOURCE_NAME, name.len) +
                 lt_ads_bytes_size(RESOURCE_VERSION, version.len) +
                 lt_ads_bytes_size(RESOURCE_ANY, any_len);
    struct lt_ads_resource *resource = lt_malloc(sizeof(*resource) + len);
    char *begin = (char *)(resource + 1), *at = begin;
    lt_bytes_init(&resource->body, lt_str_make(begin, len), free_resource);
    put(&at, RESOURCE_NAME, name);
    resource->version = put(&at, RESOURCE_VERSION, version);
    at += lt_ads_put_head(at, RESOURCE_ANY, any_len);
    put(&at, ANY_TYPE_URL, type_url);
    resource->key_len = (size_t)(at - begin);
    resource->value = put(&at, ANY_VALUE, value);
    LT_ASSERT(at == begin + len);
    return resource;
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
    struct lt_ads_resource *resource = encode(type_url, name, version, value);
    resource->name = lt_bytes_new(name);
    resource->version_hash = lt_ads_version_hash(version);
    return resource;
}

struct lt_ads_resource *lt_ads_resource_ref(struct lt_ads_resource *resource)
{
    lt_bytes_ref(&resource->body);
    return resource;
}

void lt_ads_resource_unref(struct lt_ads_resource **resource)
{
    struct lt_bytes *body = *resource != NULL ? &(*resource)->body : NULL;
    *resource = NULL;
    lt_bytes_unref(&body);
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

/* --- the pool --- */

static lt_str key_of(const struct lt_ads_resource *resource)
{
    return lt_str_make(resource->body.ptr, resource->key_len);
}

void lt_ads_pool_init(struct lt_ads_pool *pool)
{
    lt_map_init(&pool->map);
}

void lt_ads_pool_fini(struct lt_ads_pool *pool)
{
    for (size_t i = 0; i < pool->map.count; i++) {
        struct lt_ads_resource *resource = pool->map.entries[i].value;
        lt_ads_resource_unref(&resource);
    }
    lt_map_fini(&pool->map);
}

struct lt_ads_resource *lt_ads_pool_get(struct lt_ads_pool *pool, lt_str type_url, lt_str name,
                                        lt_str value)
{
    struct lt_ads_resource *fresh = lt_ads_resource_new(type_url, name, LT_STR_NULL, value);
    struct lt_ads_resource *known = lt_map_find(&pool->map, key_of(fresh));
    if (known != NULL) {
        /* 64 bits don't lie by chance, and who could make them lie writes our manifests */
        lt_ads_resource_unref(&fresh);
        return lt_ads_resource_ref(known);
    }
    lt_map_put(&pool->map, key_of(fresh), fresh);
    return lt_ads_resource_ref(fresh);
}

void lt_ads_pool_prune(struct lt_ads_pool *pool)
{
    for (size_t i = pool->map.count; i > 0; i--) {
        struct lt_ads_resource *resource = pool->map.entries[i - 1].value;
        if (__atomic_load_n(&resource->body.refs, __ATOMIC_ACQUIRE) > 1)
            continue;
        lt_map_remove(&pool->map, key_of(resource));
        lt_ads_resource_unref(&resource);
    }
}
