/*
 * tests/unit/wire/pb_test.c - bytes to messages: against protobuf-c's own reader, and against what
 * strangers send.
 */
#include "wire_test.h"

#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/core.pb-c.h"
#include "wire/proto/discovery.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/otlp_trace.pb-c.h"
#include "wire/proto/rbac.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/proto/type_matcher.pb-c.h"

#define BYTES(literal) LT_STR(literal)

static lt_rc unpack(const ProtobufCMessageDescriptor *descriptor, lt_str bytes, void *ret_msg)
{
    return lt_pb_unpack(arena, descriptor, bytes, NULL, ret_msg, &err);
}

static void scalars(LT_UNUSED void **state)
{
    Pb__Duration *duration = NULL;
    assert_int_equal(
        unpack(
            &pb__duration__descriptor,
            BYTES(
                "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            &duration),
        LT_OK);
    assert_int_equal(duration->seconds, -1);
    assert_int_equal(duration->nanos, -2);
    Pb__DoubleValue *number = NULL;
    assert_int_equal(
        unpack(&pb__double_value__descriptor, BYTES("\x09\0\0\0\0\0\0\xf8\x3f"), &number), LT_OK);
    assert_true(number->value == 1.5);
    Otlp__Span *span = NULL;
    assert_int_equal(
        unpack(&otlp__span__descriptor, BYTES("\x39\1\2\0\0\0\0\0\0\x85\x01\7\0\0\0"), &span),
        LT_OK);
    assert_int_equal(span->start_time_unix_nano, 0x201);
    assert_int_equal(span->flags, 7);
    Pb__BoolValue *yes = NULL;
    assert_int_equal(unpack(&pb__bool_value__descriptor, BYTES("\x08\x80\x02"), &yes), LT_OK);
    assert_true(yes->has_value && yes->value == 1);
}

static void later_ones_win_and_messages_merge(LT_UNUSED void **state)
{
    Xds__Node *node = NULL;
    /* id twice; locality in two parts; listening_addresses in one part each */
    assert_int_equal(
        unpack(&xds__node__descriptor,
               BYTES("\x0a\1a\x0a\1b\x22\3\x0a\1r\x22\3\x12\1z\x5a\2\x12\0\x5a\6\x12\4\x0a\2/s"),
               &node),
        LT_OK);
    assert_string_equal(node->id, "b");
    assert_string_equal(node->locality->region, "r");
    assert_string_equal(node->locality->zone, "z");
    assert_int_equal(node->n_listening_addresses, 2);
    assert_string_equal(node->listening_addresses[1]->pipe->path, "/s");
    /* oneof: pipe, then socket_address, then more of socket_address */
    Xds__Address *address = NULL;
    assert_int_equal(unpack(&xds__address__descriptor,
                            BYTES("\x12\3\x0a\1p\x0a\3\x12\1h\x0a\2\x18\x50"), &address),
                     LT_OK);
    assert_int_equal(address->address_case, XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS);
    assert_string_equal(address->socket_address->address, "h");
    assert_int_equal(address->socket_address->port_value, 80);
    /* a repeated field continued by a merged part */
    Xds__Cluster *cluster = NULL;
    assert_int_equal(
        unpack(&xds__cluster__descriptor, BYTES("\x52\2\x0a\0\x52\4\x0a\0\x0a\0"), &cluster),
        LT_OK);
    assert_int_equal(cluster->circuit_breakers->n_thresholds, 3);
    assert_non_null(cluster->circuit_breakers->thresholds[2]);
}

static void repeated_numbers_in_both_forms(LT_UNUSED void **state)
{
    Xds__FilterChainMatch *match = NULL;
    /* source_ports = 7: one, packed three, one */
    assert_int_equal(unpack(&xds__filter_chain_match__descriptor,
                            BYTES("\x38\1\x3a\4\2\x80\1\3\x38\4\x3a\0"), &match),
                     LT_OK);
    assert_int_equal(match->n_source_ports, 5);
    const uint32_t wanted[] = {1, 2, 128, 3, 4};
    assert_memory_equal(match->source_ports, wanted, sizeof(wanted));
    assert_int_equal(unpack(&xds__filter_chain_match__descriptor, BYTES("\x3a\2\1\x80"), &match),
                     LT_E_BAD);
    assert_text_has(err.text, "malformed packed field");
    assert_int_equal(unpack(&xds__filter_chain_match__descriptor,
                            BYTES("\x3a\x0c\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1"),
                            &match),
                     LT_E_BAD);
}

static void maps_are_sorted_and_unique(LT_UNUSED void **state)
{
    Xds__Metadata *metadata = NULL;
    /* keys c, a, b, a: the last a counts, and it is the one with a field inside */
    assert_int_equal(
        unpack(&xds__metadata__descriptor,
               BYTES("\x0a\3\x0a\1c\x0a\3\x0a\1a\x0a\3\x0a\1b\x0a\x0a\x0a\1a\x12\5\x0a\3\x0a\1k"),
               &metadata),
        LT_OK);
    assert_int_equal(metadata->n_filter_metadata, 3);
    assert_string_equal(metadata->filter_metadata[0]->key, "a");
    assert_int_equal(metadata->filter_metadata[0]->value->n_fields, 1);
    assert_string_equal(metadata->filter_metadata[1]->key, "b");
    assert_string_equal(metadata->filter_metadata[2]->key, "c");
}

static void packing_is_canonical(LT_UNUSED void **state)
{
    const char *keys[] = {"c", "a", "b"};
    lt_str texts[2];
    for (int turn = 0; turn < 2; turn++) {
        Xds__ResourceLocator *locator = lt_pb_new(arena, Xds__ResourceLocator,
                                                  xds__resource_locator);
        locator->n_dynamic_parameters = 3;
        locator->dynamic_parameters = lt_arena_make_n(
            arena, Xds__ResourceLocator__DynamicParametersEntry *, 3);
        for (int i = 0; i < 3; i++) {
            Xds__ResourceLocator__DynamicParametersEntry *entry = lt_pb_new(
                arena, Xds__ResourceLocator__DynamicParametersEntry,
                xds__resource_locator__dynamic_parameters_entry);
            entry->key = keys[turn == 0 ? i : 2 - i];
            locator->dynamic_parameters[i] = entry;
        }
        texts[turn] = lt_pb_pack(arena, locator);
    }
    assert_true(lt_str_eq(texts[0], texts[1]));
    assert_true(lt_str_eq(texts[0], BYTES("\x12\3\x0a\1a\x12\3\x0a\1b\x12\3\x0a\1c")));
}

static void unknown_fields_are_listed(LT_UNUSED void **state)
{
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = {LT_PB_LIMITS_DEFAULT, &unknowns};
    Xds__ClusterLoadAssignment *assignment = NULL;
    /* two localities, each with an unknown 99; one unknown 98 at the top; cluster_name (1) as a
     * varint: unknown too */
    lt_str bytes = BYTES("\x12\3\x98\6\1\x12\3\x98\6\1\x92\6\2hi\x08\1");
    assert_int_equal(lt_pb_unpack(arena, &xds__cluster_load_assignment__descriptor, bytes, &opts,
                                  &assignment, &err),
                     LT_OK);
    assert_int_equal(assignment->n_endpoints, 2);
    assert_null(assignment->cluster_name);
    assert_int_equal(unknowns.count, 4);
    assert_int_equal(unknowns.listed, 3);
    assert_string_equal(unknowns.paths[0].ptr, "#98");
    assert_string_equal(unknowns.paths[1].ptr, "#1");
    assert_string_equal(unknowns.paths[2].ptr, "endpoints.#99");
}

static void refuses(LT_UNUSED void **state)
{
    static const struct {
        lt_str bytes;
        const char *message;
    } cases[] = {
        {{"\x0b", 1}, "malformed field"},     /* group start */
        {{"\x0c", 1}, "malformed field"},     /* group end */
        {{"\x0e\x01", 2}, "malformed field"}, /* wire type 6 */
        {{"\x00\x01", 2}, "malformed field"}, /* field 0 */
        {{"\x0a", 1}, "malformed field"},     /* no length */
        {{"\x0a\x05"
          "abc",
          5},
         "malformed field"}, /* length beyond the end */
        {{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
         "malformed field"}, /* length 2^64-1 */
        {{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
         "malformed field"}, /* tag of 11 bytes */
        {{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10},
         "malformed field"},                                  /* tag beyond 64 bits */
        {{"\xf8\xff\xff\xff\x7f\x01", 6}, "malformed field"}, /* field number too high */
        {{"\x88\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x01", 13},
         "malformed field"}, /* overlong tag */
        {{"\x0a\x01\xff", 3}, "id: text is not UTF-8"},
        {{"\x0a\x03"
          "a\0b",
          5},
         "id: text is not UTF-8, or has a NUL inside"},
        {{"\x22\x03\x0a\x01\xff", 5}, "locality.region: text is not UTF-8"},
        {{"\x5a\0\x5a\x05\x12\x03\x0a\x01\xff", 9},
         "listening_addresses[1].pipe.path: text is not UTF-8"},
        {{"\x22\x02\x0a\x05", 4}, "locality: malformed field"},
        {{"\xa1\x06\1\2\3", 5}, "malformed field"}, /* unknown fixed64, cut */
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        Xds__Node *node = NULL;
        if (unpack(&xds__node__descriptor, cases[i].bytes, &node) != LT_E_BAD)
            fail_msg("case %zu passed", i);
        assert_text_has(err.text, cases[i].message);
        assert_null(node);
    }
}

static void limits_hold(LT_UNUSED void **state)
{
    struct lt_pb_opts opts = {{100, 1 << 20, 10}, NULL};
    Xds__CircuitBreakers *breakers = NULL;
    char many[22];
    for (size_t i = 0; i < sizeof(many); i += 2)
        memcpy(many + i, "\x0a\0", 2);
    const ProtobufCMessageDescriptor *descriptor = &xds__circuit_breakers__descriptor;
    assert_int_equal(lt_pb_unpack(arena, descriptor, lt_str_make(many, 20), &opts, &breakers, &err),
                     LT_OK);
    assert_int_equal(lt_pb_unpack(arena, descriptor, lt_str_make(many, 22), &opts, &breakers, &err),
                     LT_E_LIMIT);
    opts.limits.fields_max = 1000;
    opts.limits.bytes_max = 21;
    assert_int_equal(lt_pb_unpack(arena, descriptor, lt_str_make(many, 22), &opts, &breakers, &err),
                     LT_E_LIMIT);
    opts.limits.bytes_max = 1000;
    opts.limits.memory_max = 300;
    assert_int_equal(lt_pb_unpack(arena, descriptor, lt_str_make(many, 22), &opts, &breakers, &err),
                     LT_E_LIMIT);
    struct lt_arena *small = lt_arena_new(16, 300);
    opts.limits.memory_max = 1 << 20;
    assert_int_equal(lt_pb_unpack(small, descriptor, lt_str_make(many, 22), &opts, &breakers, &err),
                     LT_E_LIMIT);
    lt_arena_free(&small);
}

/* A Permission inside a not_rule inside a not_rule ...: each level is bytes, so neither reader nor
 * writer may recurse over it. */
static void recursion_stays_in_bytes(LT_UNUSED void **state)
{
    enum { LEVELS = 20000 };
    lt_str inner = BYTES("\x18\1"); /* any: true */
    char *room = lt_arena_alloc(arena, LEVELS * 8);
    char *at = room + LEVELS * 8;
    at -= inner.len;
    memcpy(at, inner.ptr, inner.len);
    size_t len = inner.len;
    for (int i = 0; i < LEVELS && at - room > 8; i++) {
        char head[8] = "\x42"; /* not_rule = 8 */
        size_t head_len = 1, left = len;
        for (; left > 0x7F; left >>= 7)
            head[head_len++] = (char)(0x80 | (left & 0x7F));
        head[head_len++] = (char)left;
        at -= head_len;
        memcpy(at, head, head_len);
        len += head_len;
    }
    Xds__Permission *permission = NULL;
    assert_int_equal(unpack(&xds__permission__descriptor, lt_str_make(at, len), &permission),
                     LT_OK);
    assert_int_equal(permission->rule_case, XDS__PERMISSION__RULE_NOT_RULE);
    assert_true(lt_str_eq(lt_pb_pack(arena, permission), lt_str_make(at, len)));
    assert_text_has(message_text(permission), "\"not_rule\":{\"not_rule\"");
}

/* --- random messages, made field by field from the schema --- */

static uint32_t random_below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*seed >> 33) % n);
}

static void add_varint(struct lt_buf *out, uint64_t value)
{
    for (; value > 0x7F; value >>= 7)
        lt_buf_add(out, lt_str_make((char[]){(char)(0x80 | (value & 0x7F))}, 1));
    lt_buf_add(out, lt_str_make((char[]){(char)value}, 1));
}

static void add_tag(struct lt_buf *out, const ProtobufCFieldDescriptor *field, unsigned wire_type)
{
    add_varint(out, field->id << 3 | wire_type);
}

static void add_block(struct lt_buf *out, const ProtobufCFieldDescriptor *field, lt_str content)
{
    add_tag(out, field, 2);
    add_varint(out, content.len);
    lt_buf_add(out, content);
}

/* A single field or oneof twice: legal, but protobuf-c 1.4.1 loses what came first (protoc doesn't,
 * nor do we). */
static bool is_used(bool *used, const ProtobufCMessageDescriptor *schema,
                    const ProtobufCFieldDescriptor *field)
{
    bool was_used = used[field - schema->fields];
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return false;
    for (unsigned i = 0; i < schema->n_fields; i++) {
        if (&schema->fields[i] == field ||
            ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
             schema->fields[i].quantifier_offset == field->quantifier_offset))
            used[i] = true;
    }
    return was_used;
}

static void add_fields(struct lt_buf *out, const ProtobufCMessageDescriptor *schema, unsigned depth,
                       uint64_t *seed)
{
    static const char letters[] = "abcdefgh";
    bool used[128] = {false};
    for (uint32_t left = schema->n_fields == 0 ? 0 : random_below(seed, 6); left > 0; left--) {
        const ProtobufCFieldDescriptor *field =
            &schema->fields[random_below(seed, schema->n_fields)];
        uint64_t number = random_below(seed, 2) == 0 ? random_below(seed, 300) : *seed;
        struct lt_buf inner;
        if (lt_pb_is_map(schema, field) || is_used(used, schema, field))
            continue; /* maps: ours sorts them */
        switch (field->type) {
        case PROTOBUF_C_TYPE_MESSAGE:
            lt_buf_init(&inner, 1u << 20);
            if (depth > 0)
                add_fields(&inner, field->descriptor, depth - 1, seed);
            add_block(out, field, lt_buf_str(&inner));
            lt_buf_fini(&inner);
            break;
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
            add_block(out, field, lt_str_make(letters, random_below(seed, 8)));
            break;
        case PROTOBUF_C_TYPE_DOUBLE:
        case PROTOBUF_C_TYPE_FIXED64:
            add_tag(out, field, 1);
            lt_buf_add(out, lt_str_make(&number, 8));
            break;
        case PROTOBUF_C_TYPE_FLOAT:
        case PROTOBUF_C_TYPE_FIXED32:
            add_tag(out, field, 5);
            lt_buf_add(out, lt_str_make(&number, 4));
            break;
        default: add_tag(out, field, 0); add_varint(out, number);
        }
    }
}

/* What protobuf-c reads and packs again, ours reads and packs to the same bytes. */
static void agrees_with_protobuf_c(LT_UNUSED void **state)
{
    size_t count = 0;
    const ProtobufCMessageDescriptor *const *all = lt_any_all(&count);
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        const ProtobufCMessageDescriptor *schema = all[(size_t)round % count];
        struct lt_arena_mark mark = lt_arena_mark(arena);
        struct lt_buf bytes;
        lt_buf_init(&bytes, 1u << 20);
        add_fields(&bytes, schema, 4, &seed);
        lt_str text = lt_buf_str(&bytes);
        ProtobufCMessage *ours = NULL;
        ProtobufCMessage *theirs = protobuf_c_message_unpack(schema, NULL, text.len,
                                                             (const uint8_t *)text.ptr);
        assert_non_null(theirs);
        assert_int_equal(lt_pb_unpack(arena, schema, text, NULL, &ours, &err), LT_OK);
        lt_str packed = lt_pb_pack(arena, ours);
        uint8_t *want = lt_arena_alloc(arena, protobuf_c_message_get_packed_size(theirs));
        size_t size = protobuf_c_message_pack(theirs, want);
        if (size != packed.len || memcmp(want, packed.ptr, size) != 0)
            fail_msg("round %d, %s: they have %zu bytes, we %zu", round, schema->name, size,
                     packed.len);
        protobuf_c_message_free_unpacked(theirs, NULL);
        lt_buf_fini(&bytes);
        lt_arena_rollback(arena, mark);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),
        cmocka_unit_test(later_ones_win_and_messages_merge),
        cmocka_unit_test(repeated_numbers_in_both_forms),
        cmocka_unit_test(maps_are_sorted_and_unique),
        cmocka_unit_test(packing_is_canonical),
        cmocka_unit_test(unknown_fields_are_listed),
        cmocka_unit_test(refuses),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(recursion_stays_in_bytes),
        cmocka_unit_test(agrees_with_protobuf_c),
    };
    return cmocka_run_group_tests(tests, arena_up, arena_down);
}
