/*
 * tests/unit/wire/schema_test.c - what the readers take for granted about the schemas.
 */
#include "wire_test.h"

#include "wire/proto/als.pb-c.h"
#include "wire/proto/auth.pb-c.h"
#include "wire/proto/bootstrap.pb-c.h"
#include "wire/proto/discovery.pb-c.h"
#include "wire/proto/google_rpc.pb-c.h"
#include "wire/proto/grpc_health.pb-c.h"
#include "wire/proto/istio_ca.pb-c.h"
#include "wire/proto/otlp_trace_service.pb-c.h"
#include "wire/proto/rbac.pb-c.h"

enum { DEPTH_MAX = 32 };

/* What is read or written without an Any around it. */
static const ProtobufCMessageDescriptor *const calls[] = {
    &xds__discovery_request__descriptor,
    &xds__discovery_response__descriptor,
    &xds__delta_discovery_request__descriptor,
    &xds__delta_discovery_response__descriptor,
    &xds__check_request__descriptor,
    &xds__check_response__descriptor,
    &xds__stream_access_logs_message__descriptor,
    &istio__istio_certificate_request__descriptor,
    &istio__istio_certificate_response__descriptor,
    &grpc__health_check_request__descriptor,
    &grpc__health_check_response__descriptor,
    &otlp__export_trace_service_request__descriptor,
    &otlp__export_trace_service_response__descriptor,
    &xds__permission__descriptor,
    &xds__principal__descriptor,
};

/* Walks a schema down; a message inside itself, directly or not, fails. Returns how deep it is. */
static unsigned walk(const ProtobufCMessageDescriptor *message,
                     const ProtobufCMessageDescriptor **above, unsigned depth)
{
    unsigned deepest = depth;
    if (depth == DEPTH_MAX)
        fail_msg("%s: deeper than the C stack was planned for", above[0]->name);
    for (unsigned i = 0; i < depth; i++) {
        if (above[i] == message)
            fail_msg("%s is inside itself (from %s)", message->name, above[0]->name);
    }
    assert_true(message->n_fields <= 128); /* FIELDS_OF_A_MESSAGE_MAX of pb.c */
    above[depth] = message;
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        assert_int_not_equal(field->label, PROTOBUF_C_LABEL_REQUIRED);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            deepest = LT_MAX(deepest, walk(field->descriptor, above, depth + 1));
        if (!lt_pb_is_map(message, field))
            continue;
        const ProtobufCMessageDescriptor *entry = field->descriptor;
        assert_string_equal(entry->fields[0].name, "key");
        assert_int_equal(entry->fields[0].type, PROTOBUF_C_TYPE_STRING);
        assert_string_equal(entry->fields[1].name, "value");
    }
    return deepest;
}

static void no_schema_contains_itself(LT_UNUSED void **state)
{
    const ProtobufCMessageDescriptor *above[DEPTH_MAX];
    size_t count = 0;
    const ProtobufCMessageDescriptor *const *all = lt_any_all(&count);
    assert_true(count > 90);
    for (size_t i = 0; i < count; i++)
        walk(all[i], above, 0);
    for (size_t i = 0; i < LT_ARRAY_LEN(calls); i++)
        walk(calls[i], above, 0);
}

static void any_def_is_sorted(LT_UNUSED void **state)
{
    size_t count = 0;
    const ProtobufCMessageDescriptor *const *all = lt_any_all(&count);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(all[i - 1]->name, all[i]->name) >= 0)
            fail_msg("any.def: %s belongs before %s", all[i]->name, all[i - 1]->name);
        assert_ptr_equal(lt_any_find(lt_str_of(all[i]->name)), all[i]);
    }
    assert_ptr_equal(lt_any_find(LT_STR("type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap")),
                     &xds__bootstrap__descriptor);
    assert_null(lt_any_find(LT_STR("type.googleapis.com/nobody.Knows")));
    assert_null(lt_any_find(LT_STR("")));
}

static void maps_are_told_from_lists(LT_UNUSED void **state)
{
    const ProtobufCMessageDescriptor *rbac = &xds__rbac__descriptor;
    assert_true(
        lt_pb_is_map(rbac, protobuf_c_message_descriptor_get_field_by_name(rbac, "policies")));
    const ProtobufCMessageDescriptor *policy = &xds__policy__descriptor;
    assert_false(lt_pb_is_map(
        policy, protobuf_c_message_descriptor_get_field_by_name(policy, "permissions")));
    assert_ptr_equal(lt_pb_inside(&xds__permission__descriptor, 8), &xds__permission__descriptor);
    assert_null(lt_pb_inside(&xds__policy__descriptor, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_schema_contains_itself),
        cmocka_unit_test(any_def_is_sorted),
        cmocka_unit_test(maps_are_told_from_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
